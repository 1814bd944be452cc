import lrtheory as lr


def watch(optimizer, monitor: lr.Monitor) -> None:
    """To be called between `loss.backward()` and `optimizer.step()`."""
    (group,) = optimizer.param_groups  # the balance is of one learning rate
    trained = [p for p in group["params"] if p.grad is not None]
    monitor.update(
        lambda: [p.detach() for p in trained],
        lambda: [p.grad + group["weight_decay"] * p.detach() for p in trained],  # what is applied
        group["lr"],
        lambda: [optimizer.state[p].get("momentum_buffer", p.grad) for p in trained],
    )
