// The small graph of an explanation as SVG. Wide: boxes in columns from the user to the item, joined by curves.
// Narrow: boxes below each other, joined by lines in a margin. No two boxes touch, and no line is drawn over a label.

const SVG = "http://www.w3.org/2000/svg";
const FONT = 13; // pixels
const LINE = 17;
const PAD = 9;
const NARROW = 540; // pixels, below which boxes stand below each other
const MOST = 24; // edges of reasons
const EACH = 3; // items of the history that are drawn at one entity under one relation
const COLOURS = 8;
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
const KINDS = { user: "the user", past: "item of the history", entity: "entity", preference: "preference", memory: "memory", features: "features", target: "recommended item" };
const COLUMN = { user: 0, past: 1, preference: 1, memory: 1, features: 1, entity: 2, target: 3 };

const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
let pen;

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function html(name, className, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Breaks a label into lines of at most `width` pixels; the third line is cut where there is more. */
function wrap(label, width) {
  const words = String(label).slice(0, 400).trim().split(/\s+/u);
  const fits = (text) => pen.measureText(text).width <= width;
  const pieces = [];
  const letters = new Intl.Segmenter(undefined, { granularity: "grapheme" });
  for (const word of words) {
    let piece = "";
    for (const { segment } of fits(word) ? [{ segment: word }] : letters.segment(word)) {
      if (piece && !fits(piece + segment)) {
        pieces.push([piece, false]);
        piece = "";
      }
      piece += segment;
    }
    pieces.push([piece, true]); // a space follows
  }
  const lines = [""];
  let space = false;
  for (const [piece, ends] of pieces) {
    const longer = lines.at(-1) + (space ? " " : "") + piece;
    if (!lines.at(-1) || (space && fits(longer))) lines[lines.length - 1] = lines.at(-1) ? longer : piece;
    else lines.push(piece);
    space = ends;
  }
  if (lines.length > 3) {
    const last = [...letters.segment(lines[2])].map((s) => s.segment);
    while (last.length && !fits(last.join("") + "…")) last.pop();
    lines.splice(2, lines.length, last.join("") + "…");
  }
  return lines;
}

/** The edges that are drawn: those between the same nodes under the same label as one, strongest first. */
function merged(graph) {
  const edges = new Map();
  for (const edge of graph.edges) {
    const key = JSON.stringify([edge.source, edge.target, edge.label]);
    const known = edges.get(key);
    if (known) {
      known.effect += edge.effect ?? 0;
      for (const unit of edge.units ?? []) known.units.add(unit);
    } else edges.set(key, { ...edge, effect: edge.effect ?? 0, units: new Set(edge.units ?? []) });
  }
  return [...edges.values()].sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect));
}

/** The strongest edges of the reasons, and those between their ends that only show how they hang together. */
function chosen(all, isPast) {
  const used = new Set();
  const often = new Map();
  const reasons = all.filter((edge) => edge.units.size).filter((edge) => {
    const past = isPast(edge.source) ? edge.source : isPast(edge.target) ? edge.target : null;
    if (past === null) return true;
    const key = JSON.stringify([past === edge.source ? edge.target : edge.source, edge.label]);
    often.set(key, (often.get(key) ?? 0) + 1);
    return often.get(key) <= EACH;
  }).slice(0, MOST);
  for (const edge of reasons) used.add(edge.source).add(edge.target);
  const others = all.filter((edge) => !edge.units.size);
  return [...reasons, ...(used.size ? others.filter((edge) => used.has(edge.target)) : others.slice(0, MOST))];
}

/** Nodes and edges, with the kind of each node as it is drawn and a number for each relation. */
function read(graph, target) {
  const known = new Map(graph.nodes.map((node) => [node.id, node]));
  const kind = (node) => (node.id === target ? "target" : node.kind === "item" ? "past" : node.kind in KINDS ? node.kind : "entity");
  // That the user gets the item is what the whole picture says: a line for it stands only where there is no other.
  const told = graph.edges.some((edge) => edge.units?.length);
  const bare = (edge) => told && !edge.units.size && known.get(edge.source).kind === "user" && edge.target === target;
  const all = merged(graph).filter((edge) => known.has(edge.source) && known.has(edge.target) && !bare(edge));
  const edges = chosen(all, (id) => kind(known.get(id)) === "past");
  const used = new Set(edges.flatMap((edge) => [edge.source, edge.target]));
  const nodes = graph.nodes.filter((node) => used.has(node.id) || node.id === target).map((node) => ({ ...node, kind: kind(node) }));
  const relations = [...new Set(edges.map((edge) => edge.label))];
  const place = new Map(nodes.map((node, i) => [node.id, i]));
  for (const edge of edges) {
    edge.from = place.get(edge.source);
    edge.to = place.get(edge.target);
    edge.relation = relations.indexOf(edge.label);
  }
  const words = all.map((edge) => ({ head: known.get(edge.source).label, tail: known.get(edge.target).label, label: edge.label, effect: edge.effect }));
  return { nodes, edges, relations, words };
}

function measure(nodes, width) {
  for (const node of nodes) {
    node.lines = wrap(node.label, width - 2 * PAD);
    node.width = Math.min(width, Math.max(36, ...node.lines.map((line) => pen.measureText(line).width + 2 * PAD + 2)));
    node.height = node.lines.length * LINE + PAD;
  }
}

/** Ends of lines at the side of a box, spread over its height in the order of what they lead to. */
function spread(box, ends) {
  ends.sort((a, b) => a.toward - b.toward);
  const step = Math.min(11, (box.height - 8) / Math.max(1, ends.length));
  ends.forEach((end, i) => { end.set(box.y + (i - (ends.length - 1) / 2) * step); });
}

function arrow(x, y, toRight, size) {
  const back = toRight ? -size : size;
  return `M${x} ${y}l${back} ${-size * 0.5}v${size}z`;
}

const thickness = (edge, most) => 1.4 + (most ? 3.6 * Math.abs(edge.effect) / most : 0);
const head = (width) => 6 + 1.5 * width;

/** Boxes in columns. Returns the height and, for each edge, the path of its line and of its tip. */
function columns(nodes, edges, width, most) {
  const used = [...new Set(nodes.map((node) => COLUMN[node.kind]))].sort();
  const gap = Math.max(54, Math.min(110, width / (3 * used.length)));
  measure(nodes, (width - gap * (used.length - 1)) / used.length);
  const boxes = [...nodes];
  for (const node of nodes) node.column = used.indexOf(COLUMN[node.kind]);
  const runs = [];
  for (const edge of edges) {
    const forward = nodes[edge.from].column <= nodes[edge.to].column;
    let left = forward ? edge.from : edge.to;
    const last = forward ? edge.to : edge.from;
    edge.forward = forward;
    edge.runs = [];
    while (boxes[left].column + 1 < boxes[last].column) {
      boxes.push({ column: boxes[left].column + 1, height: 14, width: 0, between: true });
      edge.runs.push({ left, right: boxes.length - 1 });
      left = boxes.length - 1;
    }
    edge.runs.push({ left, right: last, bow: boxes[left].column === boxes[last].column });
    runs.push(...edge.runs);
  }
  boxes.forEach((box, i) => {
    box.before = runs.filter((run) => run.right === i && !run.bow);
    box.after = runs.filter((run) => run.left === i || (run.bow && run.right === i));
    if (!box.between) box.height = Math.max(box.height, 11 * Math.max(box.before.length, box.after.length) + 6);
  });
  const column = used.map((_, c) => boxes.map((_, i) => i).filter((i) => boxes[i].column === c));
  const rank = new Map();
  const number = (places) => places.forEach((i, at) => rank.set(i, (at + 0.5) / places.length));
  column.forEach(number);
  for (let sweep = 0; sweep < 6; sweep++) {
    for (const places of sweep % 2 ? [...column].reverse() : column) {
      const mean = new Map(places.map((i) => {
        const near = sweep % 2 ? boxes[i].after.filter((run) => !run.bow).map((run) => run.right) : boxes[i].before.map((run) => run.left);
        return [i, near.length ? near.reduce((sum, j) => sum + rank.get(j), 0) / near.length : rank.get(i)];
      }));
      places.sort((a, b) => mean.get(a) - mean.get(b));
      number(places);
    }
  }
  const tall = column.map((places) => places.reduce((sum, i) => sum + boxes[i].height + 14, 0));
  const height = Math.max(...tall);
  const widest = column.map((places) => Math.max(...places.map((i) => boxes[i].width)));
  const bowed = runs.some((run) => run.bow);
  const free = width - widest.reduce((a, b) => a + b, 0);
  const between = column.length > 1 ? Math.min(170, free / (column.length - 1)) : bowed ? 60 : 0;
  let x = Math.max(0, (free - between * (column.length - 1)) / 2);
  column.forEach((places, c) => {
    const more = (height - tall[c]) / places.length;
    let y = 0;
    for (const i of places) {
      const box = boxes[i];
      if (box.between) box.width = widest[c];
      box.x = x + (widest[c] - box.width) / 2;
      box.y = y + (box.height + 14 + more) / 2;
      y += box.height + 14 + more;
    }
    x += widest[c] + between;
  });
  for (const box of boxes) {
    spread(box, box.before.map((run) => ({ toward: boxes[run.left].y, set: (y) => { run.y2 = y; } })));
    spread(box, box.after.map((run) => {
      const mine = boxes[run.left] === box;
      return { toward: boxes[mine ? run.right : run.left].y, set: (y) => { run[mine ? "y1" : "y2"] = y; } };
    }));
  }
  let bows = 0;
  for (const edge of edges) {
    const size = head(thickness(edge, most));
    let path = "";
    edge.runs.forEach((run, i) => {
      const a = boxes[run.left];
      const b = boxes[run.right];
      let x1 = a.x + a.width;
      let x2 = run.bow ? b.x + b.width : b.x;
      const last = i === edge.runs.length - 1;
      if (edge.forward ? last : i === 0) {
        const [tipX, tipY] = edge.forward ? [x2, run.y2] : [x1, run.y1];
        edge.tip = arrow(tipX, tipY, edge.forward && !run.bow, size);
        if (!edge.forward) x1 += size - 1;
        else x2 += run.bow ? size - 1 : 1 - size;
      }
      // A bow within a column reaches three quarters of the way to its handles: so far that it clears all boxes.
      const clear = run.bow ? Math.max(...column[a.column].map((j) => boxes[j].x + boxes[j].width)) + 6 : 0;
      const middle = run.bow ? (clear - Math.min(x1, x2) / 4) / 0.75 + 6 + Math.min(8 * bows++, between / 2) : (x1 + x2) / 2;
      path += `${path ? "L" : "M"}${x1} ${run.y1}C${middle} ${run.y1} ${middle} ${run.y2} ${x2} ${run.y2}`;
    });
    edge.path = path;
  }
  return height;
}

/** Boxes below each other, and the lines in lanes to their right; no line crosses a box. */
function rows(nodes, edges, width, most) {
  const order = nodes.map((_, i) => i).sort((a, b) => COLUMN[nodes[a].kind] - COLUMN[nodes[b].kind]);
  const at = new Map(order.map((node, i) => [node, i]));
  const lanes = [];
  for (const edge of [...edges].sort((a, b) => Math.abs(at.get(a.from) - at.get(a.to)) - Math.abs(at.get(b.from) - at.get(b.to)))) {
    const [first, last] = [at.get(edge.from), at.get(edge.to)].sort((a, b) => a - b);
    let lane = lanes.findIndex((taken) => taken.every(([a, b]) => last < a || first > b));
    if (lane < 0) lane = lanes.push([]) - 1;
    lanes[lane].push([first, last]);
    edge.lane = lane;
  }
  const step = Math.max(5, Math.min(12, (width * 0.4 - 30) / Math.max(1, lanes.length)));
  const margin = 30 + step * lanes.length;
  measure(nodes, width - margin);
  const ends = new Map(nodes.map((node, i) => [i, edges.filter((edge) => edge.from === i || edge.to === i)]));
  let y = 0;
  for (const i of order) {
    const box = nodes[i];
    box.height = Math.max(box.height, 10 * ends.get(i).length + 6);
    box.x = 0;
    box.y = y + box.height / 2;
    y += box.height + 14;
  }
  nodes.forEach((box, i) => spread(box, ends.get(i).map((edge) => {
    const out = edge.from === i;
    const other = nodes[out ? edge.to : edge.from].y;
    // Inner lanes end nearer to where they go, so that lines of one box do not cross.
    return { toward: (other < box.y ? -1 : 1) * (1000 - edge.lane), set: (v) => { edge[out ? "y1" : "y2"] = v; } };
  })));
  const lane0 = width - margin + 24;
  for (const edge of edges) {
    const size = head(thickness(edge, most));
    const x = lane0 + edge.lane * step;
    const x1 = nodes[edge.from].width;
    const x2 = nodes[edge.to].width;
    const down = edge.y2 > edge.y1 ? 1 : -1;
    const r = Math.min(6, Math.abs(edge.y2 - edge.y1) / 2);
    edge.tip = arrow(x2, edge.y2, false, size);
    edge.path = `M${x1} ${edge.y1}H${x - r}q${r} 0 ${r} ${down * r}V${edge.y2 - down * r}q0 ${down * r} ${-r} ${down * r}H${x2 + size - 1}`;
  }
  return y - 14;
}

function box(node) {
  const shape = { class: `node ${node.kind}`, transform: `translate(${node.x} ${node.y - node.height / 2})` };
  const round = node.kind === "user" ? node.height / 2 : node.kind === "entity" ? 0 : 7;
  const group = svg("g", shape, svg("title", {}, node.label));
  group.append(svg("rect", { width: node.width, height: node.height, rx: Math.min(round, 17) }));
  const top = (node.height - node.lines.length * LINE) / 2 + LINE * 0.74;
  node.lines.forEach((line, i) => group.append(svg("text", { x: node.width / 2, y: top + i * LINE, "text-anchor": "middle" }, line)));
  return group;
}

function swatch(...children) {
  return svg("svg", { width: 30, height: 14, viewBox: "0 0 30 14", "aria-hidden": "true" }, ...children);
}

const dash = (relation) => DASHES[(relation + Math.floor(relation / COLOURS)) % DASHES.length];

function legend(nodes, edges, relations, all) {
  const list = html("ul", "legend");
  for (const [kind, words] of Object.entries(KINDS)) {
    if (!nodes.some((node) => node.kind === kind)) continue;
    const rect = svg("rect", { x: 1, y: 1, width: 28, height: 12, rx: kind === "user" ? 6 : kind === "entity" ? 0 : 3 });
    list.append(html("li", "", swatch(svg("g", { class: `node ${kind}` }, rect)), words));
  }
  relations.forEach((relation, i) => {
    const line = svg("path", { d: "M1 7H22", "stroke-width": 2.4, "stroke-dasharray": dash(i) });
    const mark = svg("g", { class: `edge e${i % COLOURS}` }, line, svg("path", { class: "tip", d: arrow(29, 7, true, 8) }));
    const words = html("span", "", relation);
    words.dir = "auto";
    list.append(html("li", "", swatch(mark), words));
  });
  const said = ["The wider an arrow, the more the score loses without it."];
  if (edges.some((edge) => edge.effect < 0)) said.push("Pale ones speak against the item.");
  if (all > edges.length) said.push(`${edges.length} of ${all} are drawn, the widest.`);
  return [list, html("p", "quiet small", said.join(" "))];
}

function asText(words) {
  const list = html("ul");
  for (const { head, label, tail, effect } of words) {
    const by = effect ? `: the score ${effect > 0 ? "loses" : "gains"} ${number.format(Math.abs(effect))} without it` : "";
    const item = html("li", "", `${head} – ${label} → ${tail}${by}`);
    item.dir = "auto";
    list.append(item);
  }
  return html("details", "as-text", html("summary", "", "The graph in words"), list);
}

/**
 * Draws a graph into an element, and again when its width changes.
 *
 * @param {HTMLElement} place Where.
 * @param {{nodes: object[], edges: object[]}} graph As the service answers it.
 * @param {string} title What it is a picture of.
 * @param {string} label Label of the recommended item, by which its node is found where no edge says that the user
 *   gets it.
 * @returns {{gone: (units: Set<number>) => void, show: (units: number[] | null) => void, stop: () => void}}
 *   `gone` pales what is left out, `show` dims all but some units, `stop` ends the drawing.
 */
export function drawGraph(place, graph, title, label) {
  pen = document.createElement("canvas").getContext("2d");
  const items = graph.nodes.filter((node) => node.kind === "item");
  const gets = graph.edges.find((edge) => edge.label === "gets" && !edge.units?.length)?.target;
  const target = items.find((node) => node.id === gets) ?? items.find((node) => node.label === label) ?? items[0];
  const { nodes, edges, relations, words } = read(graph, target?.id);
  const figure = html("div", "drawing");
  place.replaceChildren(figure, ...legend(nodes, edges, relations, words.length), asText(words));
  const most = Math.max(0, ...edges.map((edge) => Math.abs(edge.effect)));
  let width = 0;
  let lines = [];
  let gone = new Set();
  let shown = null;

  function mark() {
    // Where those to be shown are left out, the others stay as they are: paling all would tell nothing apart.
    const lit = shown?.every((unit) => gone.has(unit)) ? null : shown;
    for (const [edge, line] of lines) {
      const units = [...edge.units];
      line.classList.toggle("gone", units.length > 0 && units.every((unit) => gone.has(unit)));
      line.classList.toggle("dim", lit !== null && !units.some((unit) => lit.includes(unit)));
    }
  }

  function draw() {
    const now = Math.floor(figure.clientWidth);
    if (!now || now === width) return;
    width = now;
    pen.font = `${FONT}px ${getComputedStyle(figure).fontFamily}`;
    const height = (width < NARROW ? rows : columns)(nodes, edges, width - 4, most);
    const picture = svg("svg", { width, height: height + 4, viewBox: `-2 -2 ${width} ${height + 4}`, role: "img", "aria-label": title });
    lines = [];
    for (const edge of [...edges].reverse()) { // the strong ones on top
      const line = svg("path", { d: edge.path, "stroke-width": thickness(edge, most), "stroke-dasharray": dash(edge.relation) });
      const group = svg("g", { class: `edge e${edge.relation % COLOURS}${edge.effect < 0 ? " against" : ""}` }, svg("title", {}, edge.label), line, svg("path", { class: "tip", d: edge.tip }));
      lines.push([edge, group]);
      picture.append(group);
    }
    picture.append(...nodes.map(box));
    figure.replaceChildren(picture);
    mark();
  }

  const watch = new ResizeObserver(draw);
  watch.observe(figure);
  draw();
  return {
    gone(units) { gone = units; mark(); },
    show(units) { shown = units; mark(); },
    stop() { watch.disconnect(); },
  };
}
