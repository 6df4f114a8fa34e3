// Draw the plots of one study: two columns, quantities over steps, parallel coordinates.

const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#a6761d", "#666666"];
const BINS = 6; // of a numeric colour
const RAMP = ["#2a3f8f", "#2a7ab9", "#27a6a4", "#6fbf57", "#d7b52c", "#e8702a"]; // from low to high
const root = document.body.dataset.root;
const note = document.querySelector("[data-plot-note]");
const charts = document.querySelector("[data-plots]");
const form = new URLSearchParams(location.search);
const chosen = (name) => document.querySelector(`.filter [name=${name}]`).value;
const style = getComputedStyle(document.documentElement);
const soft = style.getPropertyValue("--soft"), line = style.getPropertyValue("--line");

async function load() {
  const axes = charts.dataset.axes.split(",").filter(Boolean);
  const color = chosen("color");
  const names = [...new Set([chosen("x"), chosen("y"), ...(color ? [color] : []), ...axes])];
  const address = new URL(charts.dataset.plots, location.href);
  address.search = new URLSearchParams({
    study: chosen("study"), where: chosen("where"), columns: names.join(","),
    ...(form.get("run_name") === null ? {} : { run_name: form.get("run_name") }),
    ...(chosen("quantity") ? { quantity: chosen("quantity") } : {}),
  });
  note.textContent = "reading ...";
  const answer = await fetch(address, { headers: { Accept: "application/json" } });
  const data = await answer.json();
  if (data.error) {
    note.textContent = data.error;
    note.className = "problem";
    return;
  }
  const columns = Object.fromEntries(data.columns.map((column) => [column.name, column]));
  const drawn = data.ids.length;
  note.textContent = drawn < data.number ? `${drawn.toLocaleString()} of ${data.number.toLocaleString()} runs` :
    `${drawn.toLocaleString()} runs`;
  offer(data.quantities);
  scatter(columns[chosen("x")], columns[chosen("y")], color ? columns[color] : null);
  if (data.lines) lines(data.lines);
  parallel(axes.map((name) => columns[name]).filter(Boolean));
}

function offer(names) {
  const select = document.querySelector("[data-quantities]");
  for (const name of names) {
    if (name !== select.dataset.chosen) select.append(new Option(name, name));
  }
}

// Times are seconds since the epoch; categories are positions.
function axis(column) {
  const labels = column.categories.length ? { values: (_, at) => at.map((v) => column.categories[v] ?? "") } : {};
  return { label: column.name, stroke: soft, grid: { stroke: line }, ticks: { stroke: line }, ...labels };
}

function groups(color, length) {
  if (!color) return [["runs", COLOURS[0], () => true]];
  if (color.categories.length) {
    return color.categories.map((name, at) => [name, COLOURS[at % COLOURS.length], (i) => color.values[i] === at]);
  }
  const known = color.values.filter((value) => value !== null);
  const low = known.reduce((a, b) => Math.min(a, b), Infinity);
  const high = known.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!(high > low)) return [[color.name, RAMP[0], (i) => color.values[i] !== null]];
  const bin = (value) => Math.min(BINS - 1, Math.floor((BINS * (value - low)) / (high - low)));
  return RAMP.map((shade, at) => [
    `from ${(low + (at * (high - low)) / BINS).toPrecision(3)}`, shade,
    (i) => color.values[i] !== null && bin(color.values[i]) === at,
  ]);
}

function scatter(x, y, color) {
  const rows = [...x.values.keys()].filter((i) => x.values[i] !== null && y.values[i] !== null);
  rows.sort((a, b) => x.values[a] - x.values[b]);
  const target = document.querySelector("[data-chart=scatter]");
  if (!rows.length) {
    target.textContent = "No run has both values.";
    return;
  }
  const kinds = groups(color, rows.length);
  const values = [rows.map((i) => x.values[i]), ...kinds.map(([, , has]) => rows.map((i) => (has(i) ? y.values[i] : null)))];
  const series = kinds.map(([label, shade]) => ({
    label, stroke: shade, paths: () => null, points: { show: true, size: 5, fill: shade, width: 0 },
  }));
  draw(target, { axes: [axis(x), axis(y)], series: [{ label: x.name }, ...series] }, values, ["created", "ended"].includes(x.name));
}

function lines(found) {
  document.querySelector("[data-lines]").hidden = false;
  const steps = [...new Set(found.flatMap((one) => one.steps))].sort((a, b) => a - b);
  const values = found.map((one) => {
    const at = new Map(one.steps.map((step, i) => [step, one.values[i]]));
    return steps.map((step) => at.get(step));
  });
  const series = found.map((one, i) => ({ label: one.run, stroke: COLOURS[i % COLOURS.length], width: 1, spanGaps: true }));
  const plain = { stroke: soft, grid: { stroke: line }, ticks: { stroke: line } };
  draw(document.querySelector("[data-chart=lines]"),
    { axes: [{ ...plain, label: "step" }, plain], series: [{ label: "step" }, ...series], legend: { show: found.length <= 8 } },
    [steps, ...values], false);
}

function draw(target, options, values, time) {
  const size = () => ({ width: Math.max(200, charts.firstElementChild.clientWidth - 20), height: 340 });
  const plot = new uPlot({ ...size(), scales: { x: { time } }, ...options }, values, target);
  addEventListener("resize", () => plot.setSize(size()));
}

// --- parallel coordinates ----------------------------------------------------------------------

const brushes = new Map(); // column -> [low, high], as shares of its axis from the bottom

function parallel(columns) {
  const canvas = document.querySelector("[data-chart=parallel]");
  const usable = columns.filter((column) => column.values.some((value) => value !== null));
  if (usable.length < 2) {
    canvas.closest("figure").hidden = true;
    return;
  }
  const height = 340, top = 30, bottom = height - 24, ratio = devicePixelRatio || 1;
  let width, place;
  const fit = () => {
    width = Math.max(200, charts.firstElementChild.clientWidth - 20);
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    place = usable.map((_, at) => 50 + (at * (width - 100)) / (usable.length - 1));
  };
  fit();
  const ends = usable.map((column) => extent(column));
  const share = (at, i) => {
    const value = usable[at].values[i];
    const [low, high] = ends[at];
    return value === null ? null : high > low ? (value - low) / (high - low) : 0.5;
  };
  const paint = () => {
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const rows = [...usable[0].values.keys()];
    const within = (i) => [...brushes].every(([at, [low, high]]) => {
      const value = share(at, i);
      return value !== null && value >= low && value <= high;
    });
    pen.lineWidth = 1;
    for (const chosenOnly of [false, true]) {
      pen.strokeStyle = chosenOnly ? COLOURS[0] : line;
      pen.globalAlpha = Math.max(0.05, Math.min(0.7, 300 / rows.length));
      for (const i of rows) {
        if (within(i) !== chosenOnly) continue;
        pen.beginPath();
        let started = false;
        for (const at of usable.keys()) {
          const value = share(at, i);
          if (value === null) { started = false; continue; }
          const y = bottom - value * (bottom - top);
          if (started) pen.lineTo(place[at], y); else pen.moveTo(place[at], y);
          started = true;
        }
        pen.stroke();
      }
    }
    pen.globalAlpha = 1;
    pen.fillStyle = pen.strokeStyle = soft;
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "center";
    for (const [at, column] of usable.entries()) {
      pen.fillRect(place[at] - 0.5, top, 1, bottom - top);
      pen.fillText(column.name.slice(0, 14), place[at], 12);
      pen.fillText(named(column, ends[at][1]), place[at], 25);
      pen.fillText(named(column, ends[at][0]), place[at], height - 8);
      const brush = brushes.get(at);
      if (brush) {
        pen.globalAlpha = 0.3;
        pen.fillRect(place[at] - 8, bottom - brush[1] * (bottom - top), 16, (brush[1] - brush[0]) * (bottom - top));
        pen.globalAlpha = 1;
      }
    }
  };
  let held = null;
  const shareOf = (event) => {
    const y = event.clientY - canvas.getBoundingClientRect().top;
    return Math.max(0, Math.min(1, (bottom - y) / (bottom - top)));
  };
  canvas.addEventListener("pointerdown", (event) => {
    const x = event.clientX - canvas.getBoundingClientRect().left;
    const at = place.reduce((best, one, i) => (Math.abs(one - x) < Math.abs(place[best] - x) ? i : best), 0);
    if (Math.abs(place[at] - x) > 30) return;
    held = { at, from: shareOf(event) };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return;
    const to = shareOf(event);
    brushes.set(held.at, [Math.min(held.from, to), Math.max(held.from, to)]);
    paint();
  });
  canvas.addEventListener("pointerup", () => {
    if (!held) return;
    const brush = brushes.get(held.at);
    if (brush && brush[1] - brush[0] < 0.01) brushes.delete(held.at);
    held = null;
    paint();
    offerFilter(usable, ends);
  });
  addEventListener("resize", () => {
    fit();
    paint();
  });
  paint();
}

function extent(column) {
  const known = column.values.filter((value) => value !== null);
  return [known.reduce((a, b) => Math.min(a, b)), known.reduce((a, b) => Math.max(a, b))];
}

function named(column, value) {
  return column.categories.length ? (column.categories[value] ?? "").slice(0, 14) : Number(value.toPrecision(4)).toString();
}

// A range of an axis as a constraint.
function offerFilter(columns, ends) {
  const link = document.querySelector("[data-brushed]");
  const parts = [];
  for (const [at, [low, high]] of brushes) {
    const column = columns[at], [from, to] = ends[at];
    const first = from + low * (to - from), last = from + high * (to - from);
    if (column.categories.length) {
      const names = column.categories.filter((_, i) => i >= first && i <= last);
      if (names.length) parts.push(`${column.name} in (${names.map((name) => `"${name.replace(/["\\]/g, "\\$&")}"`).join(", ")})`);
    } else {
      parts.push(`${column.name} >= ${Number(first.toPrecision(6))}`, `${column.name} <= ${Number(last.toPrecision(6))}`);
    }
  }
  link.hidden = !parts.length;
  const address = new URL("runs", new URL(root, location.href));
  const values = { study: chosen("study"), where: [chosen("where"), ...parts].filter(Boolean).join(" and ") };
  if (form.get("run_name") !== null) values.run_name = form.get("run_name");
  address.search = new URLSearchParams(values);
  link.href = address;
  link.textContent = `Show these runs: ${parts.join(" and ")}`;
}

load().catch((error) => { note.textContent = `The values cannot be read: ${error.message}`; });
