/* Moving figures.  A page holds, for each figure, its data (JSON), its functions (printed from SymPy) and a still
   picture; this script evaluates the functions, runs the simulations and draws SVG.  It is a classic script
   without imports, so that it runs from file://.  lrtheory/moving.py computes the same numbers for the stills. */
(function () {
  "use strict";
  const lrtheory = (globalThis.lrtheory = globalThis.lrtheory || {});

  // ---- random numbers: mulberry32, one sequence per figure, and draws from the laws of the noise ----

  lrtheory.generator = function (seed) {
    let state = seed >>> 0;
    return function () {
      state = (state + 0x6d2b79f5) >>> 0;
      let z = Math.imul(state ^ (state >>> 15), state | 1);
      z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
      return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
    };
  };

  lrtheory.draw = function (law, size, random) {
    const out = new Float64Array(size);
    if (law === "gaussian") {
      for (let i = 0; i < size; i += 2) {
        const radius = Math.sqrt(-2 * Math.log(1 - random())), angle = 2 * Math.PI * random();
        out[i] = radius * Math.cos(angle);
        if (i + 1 < size) out[i + 1] = radius * Math.sin(angle);
      }
      return out;
    }
    const inverse = {
      uniform: (u) => (u - 0.5) * Math.sqrt(12),
      laplace: (u) => (u < 0.5 ? Math.log(2 * u) : -Math.log(2 - 2 * u)) / Math.SQRT2,
      logistic: (u) => Math.log(u / (1 - u)),
    }[law] || ((u) => law.values[law.edges.filter((edge) => edge <= u).length]);
    for (let i = 0; i < size; i++) out[i] = inverse(random() + 2 ** -33);
    return out;
  };

  // All noise of a figure, drawn once: moving a slider then shows its own effect, not that of new noise.
  lrtheory.draws = function (spec, random) {
    const all = spec.panels.map(() => []);
    spec.panels.forEach((panel, p) => panel.items.forEach(({ run }, i) => {
      if (!run) return;
      const size = (run.burnIn + run.steps) * run.chains;
      all[p][i] = run.noiseOf ? all[run.noiseOf[0]][run.noiseOf[1]]
        : run.modes.map((mode) => mode.laws.map((law) => lrtheory.draw(law, size, random)));
    }));
    return all;
  };

  // ---- numbers ----

  function simulate(run, f, draws, s) {
    const { chains, every, burnIn, steps } = run, total = burnIn + steps;
    const times = Math.floor(steps / every) + 1;
    const seen = Array.from({ length: run.outputs }, () => new Float64Array(times * chains));
    run.modes.forEach((mode, m) => {
      const step = f[mode.step], observe = f[mode.observe], noise = mode.laws.map(() => 0);
      const states = Array.from({ length: chains }, () => f[mode.start](s));
      for (let n = 0; n <= total; n++) {
        const t = n - burnIn, parameters = f[mode.parameters](t, s);
        if (t >= 0 && t % every === 0)
          for (let c = 0; c < chains; c++) {
            const values = observe(states[c], parameters, t, s);
            for (let k = 0; k < seen.length; k++) seen[k][(t / every) * chains + c] += values[k];
          }
        if (n < total)
          for (let c = 0; c < chains; c++) {
            for (let k = 0; k < noise.length; k++) noise[k] = draws[m][k][n * chains + c];
            states[c] = step(states[c], noise, parameters);
          }
      }
    });
    return seen;
  }

  function means(sample, chains) {
    const y = [], stderr = [];
    for (let start = 0; start < sample.length; start += chains) {
      const part = sample.subarray(start, start + chains);
      const mean = part.reduce((a, b) => a + b, 0) / chains;
      y.push(mean);
      stderr.push(Math.sqrt(part.reduce((a, b) => a + (b - mean) ** 2, 0) / (chains - 1) / chains));
    }
    return { y, stderr };
  }

  function crossing(difference, after, end) {
    const at = (i) => after + (end - after) * (i ? i / 400 : 1e-6);
    for (let i = 0; i < 400; i++) {
      let low = at(i), high = at(i + 1);
      const sign = Math.sign(difference(low));
      if (sign * Math.sign(difference(high)) < 0) {
        for (let n = 0; n < 40; n++) {
          const middle = (low + high) / 2;
          if (Math.sign(difference(middle)) === sign) low = middle;
          else high = middle;
        }
        return (low + high) / 2;
      }
    }
    return NaN;
  }

  function number(value, decimals) {
    const size = Math.abs(value);
    const text = decimals ? value.toFixed(decimals)
      : size > 0 && size < 1e-3 ? value.toExponential(1)
      : size < 1000 ? String(Number(value.toPrecision(3))) : value.toFixed(0);
    return text.replace(/-/g, "\u2212");
  }

  // What the figure shows at the slider values s: a message if these are not valid, series, lines of text.
  lrtheory.evaluate = function (spec, f, s, draws) {
    const broken = spec.valid.find((rule) => !f[rule.f](s));
    if (broken) return { valid: broken.message, panels: [], readouts: [] };
    const panels = spec.panels.map((panel, p) => {
      const [low, high] = f[panel.xrange](s), last = panel.points - 1;
      const x = Array.from({ length: panel.points }, (_, i) =>
        panel.logX ? low * (high / low) ** (i / last) : low + ((high - low) * i) / last);
      return panel.items.map((item, i) => {
        const data = { type: item.type };
        if (item.type === "curve") Object.assign(data, { x, y: x.map((v) => f[item.f](v, s)) });
        else if (item.type === "level" || item.type === "mark") data.at = f[item.at](s);
        else if (item.type === "crossing") {
          const [a, b] = item.curves.map((c) => f[panel.items[c].f]);
          data.x = crossing((v) => a(v, s) - b(v, s), Math.max(low, f[item.after](s)), high);
          data.y = a(data.x, s);
        } else if (item.type === "run") {
          const seen = simulate(item.run, f, draws[p][i], s), chains = item.run.chains;
          Object.assign(data, means(seen[0], chains));
          data.x = seen[1] ? means(seen[1], chains).y : data.y.map((_, k) => k * item.run.every);
          if (chains === 1) delete data.stderr;
        } else {
          const sample = simulate(item.run, f, draws[p][i], s)[0], bins = item.bins;
          data.x = Array.from({ length: bins + 1 }, (_, k) => low + ((high - low) * k) / bins);
          data.y = Array(bins).fill(0);
          for (const v of sample) {
            const k = Math.floor(((v - low) / (high - low)) * bins);
            if (k >= 0 && k < bins) data.y[k] += bins / (high - low) / sample.length;
          }
          if (item.density) data.curve = { x, y: x.map((v) => f[item.density](v, s)) };
        }
        return data;
      });
    });
    const readouts = spec.readouts.map((line) => {
      const value = (v) => (v.f ? f[v.f](s) : panels[v.crossing[0]][v.crossing[1]].x);
      const numbers = Object.fromEntries(Object.entries(line.values).map(([name, v]) => [name, value(v)]));
      const text = Object.values(numbers).every(Number.isFinite) ? line.template : line.otherwise;
      return text.replace(/\{(\w+)(?::(\d))?\}/g, (_, name, decimals) => number(numbers[name], decimals));
    });
    return { valid: null, panels, readouts };
  };

  if (typeof document === "undefined") return; // under node, for the tests

  // ---- drawing ----

  const escape = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const pen = document.createElement("canvas").getContext("2d");

  // Positions at least `gap` apart within [low, high], as near as can be to those wanted (in ascending order).
  function apart(wanted, gap, low, high) {
    const y = wanted.map((v) => Math.min(Math.max(v, low), high));
    for (let i = 1; i < y.length; i++) y[i] = Math.max(y[i], y[i - 1] + gap);
    if (y.length) y[y.length - 1] = Math.min(y[y.length - 1], high);
    for (let i = y.length - 2; i >= 0; i--) y[i] = Math.min(y[i], y[i + 1] - gap);
    return y;
  }

  function ticks(low, high, log, count) {
    if (log) {
      const all = [], decades = Math.log10(high / low), every = Math.ceil(decades / count);
      for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++)
        for (const m of decades < 2 ? [1, 2, 5] : [1])
          if (e % every === 0 && m * 10 ** e >= low * 0.999 && m * 10 ** e <= high * 1.001) all.push(m * 10 ** e);
      return all;
    }
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= rough * 0.999);
    const first = Math.ceil(low / step - 1e-9), all = [];
    for (let i = first; i * step <= high + step * 1e-9; i++) all.push(Number((i * step).toPrecision(12)));
    return all;
  }

  function tickText(value) {
    const size = Math.abs(value);
    if (size && (size < 1e-3 || size >= 1e5)) {
      const [mantissa, power] = value.toExponential().split("e");
      const raised = String(Number(power)).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] || "⁻");
      return (mantissa === "1" ? "10" : `${mantissa}·10`).replace("-", "\u2212") + raised;
    }
    return String(value).replace("-", "\u2212");
  }

  function range(panel, series, fixed) {
    let low = Infinity, high = -Infinity;
    const see = (v) => {
      if (!Number.isFinite(v) || (panel.logY && v <= 0)) return;
      low = Math.min(low, v);
      high = Math.max(high, v);
    };
    for (const data of series) {
      if (data.type === "level") see(data.at);
      else if (data.type !== "mark" && data.type !== "crossing")
        data.y.forEach((v, i) => {
          see(v);
          if (data.stderr && !panel.logY) see(v + 2 * data.stderr[i]);
        });
      if (data.curve) data.curve.y.forEach(see);
      if (data.type === "histogram") see(0);
    }
    if (!(high > -Infinity)) [low, high] = panel.logY ? [0.1, 1] : [0, 1];
    if (fixed) return fixed;
    if (panel.logY) return [Math.max(low, high * 1e-8) / 1.15, high * 1.3];
    if (low === high) [low, high] = low ? [Math.min(0, 2 * low), Math.max(0, 2 * low)] : [-1, 1];
    if (low > 0 && low < high / 2) low = 0;
    // round to ticks, so that the axis moves seldom while a slider is dragged
    const marks = ticks(low, high, false, 10), step = marks[1] - marks[0];
    return [Math.floor(low / step + 0.01) * step, Math.ceil(high / step - 0.01) * step];
  }

  function drawPanel(figure, panel, series, width, p) {
    const wide = width >= 560, size = wide ? 14 : 13;
    pen.font = `${size}px ${getComputedStyle(figure.root).fontFamily}`;
    const textWidth = (text) => pen.measureText(text).width;
    const ends = []; // labels at the right end of lines
    const key = []; // the same labels, above the plot where there is no room beside it
    const height = Math.round(Math.min(Math.max(width * 0.5, 240), 340));
    const [x0, x1] = figure.f[panel.xrange](figure.values);
    const [y0, y1] = range(panel, series, panel.yrange && figure.f[panel.yrange](figure.values));
    const yTicks = ticks(y0, y1, panel.logY, 5), xTicks = ticks(x0, x1, panel.logX, wide ? 6 : 4);
    const labelled = (type) => type !== "mark" && type !== "crossing";
    const names = panel.items.flatMap((item) => [labelled(item.type) && item.label, item.density && item.densityLabel]);
    const left = Math.max(...yTicks.map((v) => textWidth(tickText(v))), 8) + 10;
    const right = width - (wide ? Math.max(...names.map((name) => textWidth(name || "")), 4) + 14 : 8);
    const top = size + 18, bottom = height - 2.9 * size;
    const scale = (v, a, b, from, to, log) =>
      from + (to - from) * (log ? Math.log(v / a) / Math.log(b / a) : (v - a) / (b - a));
    const X = (v) => scale(v, x0, x1, left, right, panel.logX);
    const Y = (v) => Math.min(Math.max(scale(v, y0, y1, bottom, top, panel.logY), -9999), 9999);
    const path = (x, y) => {
      let text = "", move = true;
      x.forEach((v, i) => {
        const px = X(v), py = panel.logY && !(y[i] > 0) ? NaN : Y(y[i]);
        if (Number.isFinite(px) && Number.isFinite(py)) text += `${move ? "M" : "L"}${px.toFixed(1)} ${py.toFixed(1)}`;
        move = !(Number.isFinite(px) && Number.isFinite(py));
      });
      return text;
    };
    const write = (x, y, text, kind, anchor) =>
      `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" class="${kind}" text-anchor="${anchor}">${escape(text)}</text>`;
    const clip = `${figure.root.id}-clip-${p}`;
    const inside = [], above = [], axes = [];

    yTicks.forEach((v) => axes.push(`<path class="grid" d="M${left} ${Y(v)}H${right}"/>`,
      write(left - 7, Y(v) + size * 0.35, tickText(v), "tick", "end")));
    xTicks.forEach((v) => axes.push(`<path class="grid" d="M${X(v)} ${top}V${bottom}"/>`,
      write(Math.min(X(v), width - textWidth(tickText(v)) / 2 - 1), bottom + size + 6, tickText(v), "tick", "middle")));
    axes.push(`<path class="axis" d="M${left} ${bottom}H${right}"/>`, write(0, size, panel.ylabel, "name", "start"),
      write((left + right) / 2, height - 4, panel.xlabel, "name", "middle"));

    const name = (label, role, shape, y) => {
      if (!label) return;
      if (wide && Number.isFinite(y)) ends.push({ label, role, y });
      else key.push(`<li class="role-${role} ${shape}">${escape(label)}</li>`);
    };
    const line = (data, label, role, kind) => {
      inside.push(`<path class="line role-${role} ${kind}" d="${path(data.x, data.y)}"/>`);
      name(label, role, kind || "solid", Y(data.y[data.y.length - 1]));
    };
    panel.items.forEach((item, i) => {
      const data = series[i], role = item.role;
      if (item.type === "curve") line(data, item.label, role, item.dashed ? "dashed" : "");
      else if (item.type === "run" && !data.stderr) line(data, item.label, role, "path");
      else if (item.type === "run") {
        const bars = data.x.map((v, k) => {
          const half = 2 * data.stderr[k], lowest = data.y[k] - half;
          const end = panel.logY && lowest <= 0 ? bottom : Y(lowest);
          return `M${X(v).toFixed(1)} ${end.toFixed(1)}V${Y(data.y[k] + half).toFixed(1)}`;
        }).filter((bar) => !bar.includes("NaN"));
        inside.push(`<path class="bar role-${role}" d="${bars.join("")}"/>`);
        data.x.forEach((v, k) => {
          if (Number.isFinite(Y(data.y[k])))
            inside.push(`<circle class="role-${role}" cx="${X(v).toFixed(1)}" cy="${Y(data.y[k]).toFixed(1)}" r="3.2"/>`);
        });
        name(item.label, role, "dots", Y(data.y[data.y.length - 1]));
      } else if (item.type === "histogram") {
        const boxes = data.y.map((v, k) => `M${X(data.x[k])} ${bottom}V${Y(v)}H${X(data.x[k + 1])}V${bottom}`);
        inside.push(`<path class="box role-${role}" d="${boxes.join("")}"/>`);
        name(item.label, role, "dots", NaN);
        if (data.curve) line(data.curve, item.densityLabel, "theory", "");
      } else if (item.type === "level") line({ x: [x0, x1], y: [data.at, data.at] }, item.label, role, "thin");
      else if (item.type === "mark" && data.at >= x0 && data.at <= x1) {
        inside.push(`<path class="line thin dotted role-${role}" d="M${X(data.at)} ${top}V${bottom}"/>`);
        const after = X(data.at) + textWidth(item.label) + 6 < right;
        above.push(write(X(data.at) + (after ? 5 : -5), top + size, item.label, `label role-${role}`, after ? "start" : "end"));
      } else if (item.type === "crossing" && Number.isFinite(data.x)) {
        // beside the ring, right of it where there is room: a mark at `after` often stands just left of it
        const fits = X(data.x) + textWidth(item.label) + 8 < right;
        above.push(`<circle class="ring" cx="${X(data.x)}" cy="${Y(data.y)}" r="6"/>`,
          write(X(data.x) + (fits ? 8 : -8), Math.max(Y(data.y) - 10, top + size), item.label, "label", fits ? "start" : "end"));
      }
    });
    ends.sort((a, b) => a.y - b.y);
    apart(ends.map((end) => end.y), size + 3, top, bottom).forEach((y, i) =>
      above.push(write(right + 8, y + size * 0.35, ends[i].label, `label role-${ends[i].role}`, "start")));

    const parts = figure.panels[p];
    parts.key.innerHTML = key.join("");
    parts.key.hidden = !key.length;
    parts.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    parts.svg.setAttribute("width", width);
    parts.svg.setAttribute("height", height);
    parts.svg.style.fontSize = `${size}px`;
    parts.svg.innerHTML =
      `<clipPath id="${clip}"><rect x="${left}" y="${top - 4}" width="${right - left + 4}" height="${bottom - top + 4}"/></clipPath>` +
      `${axes.join("")}<g clip-path="url(#${clip})">${inside.join("")}</g>${above.join("")}`;
  }

  function draw(figure) {
    const width = Math.floor(figure.live.clientWidth);
    if (!width) return;
    const shown = lrtheory.evaluate(figure.spec, figure.f, figure.values, figure.draws);
    figure.live.classList.toggle("is-invalid", !!shown.valid);
    const lines = shown.valid ? [shown.valid] : shown.readouts;
    figure.readout.innerHTML = lines.filter(Boolean).map((text) => `<p>${escape(text)}</p>`).join("");
    if (!shown.valid) figure.spec.panels.forEach((panel, p) => drawPanel(figure, panel, shown.panels[p], width, p));
  }

  // ---- to take away: the picture as a file of its own, and its numbers ----

  function freestanding(svg) {
    const copy = svg.cloneNode(true), originals = svg.querySelectorAll("*");
    copy.querySelectorAll("*").forEach((node, i) => { // the page's style sheet stays behind
      const style = getComputedStyle(originals[i]);
      for (const name of ["fill", "fill-opacity", "stroke", "stroke-opacity", "stroke-width", "stroke-dasharray"])
        if (style[name] && style[name] !== "none" || name === "fill") node.setAttribute(name, style[name]);
    });
    const style = getComputedStyle(svg);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.setAttribute("font-family", "sans-serif");
    copy.setAttribute("font-size", style.fontSize);
    return new XMLSerializer().serializeToString(copy);
  }

  function table(figure) {
    const shown = lrtheory.evaluate(figure.spec, figure.f, figure.values, figure.draws);
    const cell = (v) => (/[",\n]/.test(v) ? `"${String(v).replace(/"/g, '""')}"` : String(v));
    const rows = [["panel", "series", "x", "y", "standard error"]];
    shown.panels.forEach((series, p) => series.forEach((data, i) => {
      const item = figure.spec.panels[p].items[i], label = item.label || item.type;
      const add = (name, x, y, stderr) => y.forEach((v, k) => rows.push([p + 1, name, x[k], v, stderr ? stderr[k] : ""]));
      if (data.y && data.y.length !== undefined) add(label, data.x, data.y, data.stderr);
      if (data.curve) add(item.densityLabel, data.curve.x, data.curve.y);
      if (data.type === "level") rows.push([p + 1, label, "", data.at, ""]);
      if (data.type === "mark") rows.push([p + 1, label, data.at, "", ""]);
      if (data.type === "crossing") rows.push([p + 1, label, data.x, data.y, ""]);
    }));
    const settings = figure.spec.sliders.map((slider, i) => `# ${slider.label} = ${figure.values[i]}\n`).join("");
    return settings + rows.map((row) => row.map(cell).join(",") + "\n").join("");
  }

  function save(name, type, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // ---- life on the page ----

  function element(parent, tag, attributes, text) {
    const made = document.createElementNS(tag === "svg" ? "http://www.w3.org/2000/svg" : parent.namespaceURI, tag);
    for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
    if (text) made.textContent = text;
    return parent.appendChild(made);
  }

  function revive(root) {
    const spec = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
    const random = lrtheory.generator(spec.seed);
    const figure = { root, spec, f: lrtheory.functions[spec.name], values: [], draws: lrtheory.draws(spec, random) };
    figure.live = element(root, "div", { class: "moving-live" });
    figure.panels = spec.panels.map((panel) => ({
      key: element(figure.live, "ul", { class: "moving-key" }),
      svg: element(figure.live, "svg", { role: "img", "aria-label":
        spec.panels.length > 1 ? `${panel.ylabel} against ${panel.xlabel}. ${spec.alt}` : spec.alt }),
    }));
    figure.readout = element(figure.live, "div", { class: "moving-readout", "aria-live": "polite" });

    // at most one drawing per frame of the screen, whatever the rate of events; nothing ever moves by itself
    let waiting = 0;
    const redraw = () => {
      if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; draw(figure); });
    };
    const controls = element(figure.live, "div", { class: "moving-controls" });
    const setters = spec.sliders.map((slider, i) => {
      const box = element(controls, "div", { class: "moving-slider" }), id = `${root.id}-slider-${i}`;
      element(box, "label", { for: id }, slider.label);
      const shown = element(box, "span", { class: "moving-value", "aria-hidden": "true" });
      const to = slider.log ? Math.log10 : Number, back = slider.log ? (v) => 10 ** v : Number;
      const input = element(box, "input", { type: "range", id, min: to(slider.min), max: to(slider.max), step: slider.step });
      const decimals = (String(slider.step).split(".")[1] || "").length;
      const read = () => {
        const value = back(Number(input.value));
        figure.values[i] = slider.log ? Number(value.toPrecision(3)) : value;
        shown.textContent = slider.log ? number(value) : value.toFixed(decimals).replace("-", "\u2212");
        input.setAttribute("aria-valuetext", shown.textContent);
      };
      input.addEventListener("input", () => { read(); redraw(); });
      return () => {
        input.value = to(slider.value);
        read();
        figure.values[i] = slider.value; // exactly, even where the slider's grid misses it
      };
    });
    const buttons = element(figure.live, "div", { class: "moving-buttons" });
    const button = (text, action) => element(buttons, "button", { type: "button" }, text).addEventListener("click", action);
    let sampler = random;
    if (spec.panels.some((panel) => panel.items.some((item) => item.run && item.run.modes.some((m) => m.laws.length))))
      button("New sample", () => { figure.draws = lrtheory.draws(spec, sampler); redraw(); });
    const reset = () => setters.forEach((set) => set());
    button("Reset", () => {
      sampler = lrtheory.generator(spec.seed);
      figure.draws = lrtheory.draws(spec, sampler);
      reset();
      redraw();
    });
    button("Save SVG", () => figure.panels.forEach(({ svg }, p) => save(`${spec.name}${p ? `-${p + 1}` : ""}.svg`, "image/svg+xml", freestanding(svg))));
    button("Save CSV", () => save(`${spec.name}.csv`, "text/csv", table(figure)));
    reset();
    root.classList.add("is-live"); // hides the still picture, see figures.css
    draw(figure);
    let width = figure.live.clientWidth;
    new ResizeObserver(() => {
      if (figure.live.clientWidth !== width) { width = figure.live.clientWidth; redraw(); }
    }).observe(figure.live);
  }

  function wake(root) {
    try {
      revive(root);
    } catch (error) { // the still picture stays
      root.classList.remove("is-live");
      root.querySelector(".moving-live")?.remove();
      console.error(`moving figure ${root.id}:`, error);
    }
  }

  function start() {
    const near = new IntersectionObserver((entries) => entries.forEach((entry) => {
      if (entry.isIntersecting) { near.unobserve(entry.target); wake(entry.target); }
    }), { rootMargin: "600px" });
    document.querySelectorAll(".moving-figure").forEach((root) => near.observe(root));
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
