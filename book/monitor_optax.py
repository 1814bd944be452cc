import jax
import optax


def make_step(loss, rate, momentum=None):
    """A training step that also returns the gradient: `monitor.update(params, gradient, rate)` takes it."""
    optimizer = optax.sgd(rate, momentum)

    @jax.jit
    def step(params, state, batch):
        gradient = jax.grad(loss)(params, batch)  # weight decay belongs in the loss
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, gradient

    return optimizer.init, step
