// What a reader of the page would stumble over. An object of functions, each of which returns what it finds.
{
  /** Controls that have no name. */
  nameless() {
    const named = (e) => e.getAttribute("aria-label") || e.textContent.trim() || [...(e.labels ?? [])].some((l) => l.textContent.trim());
    return [...document.querySelectorAll('a, button, input, select, summary, [tabindex="0"]')].filter((e) => e.checkVisibility() && !named(e)).map((e) => e.outerHTML);
  },

  /** Controls that are called otherwise than they show (who speaks to a browser says what stands there), and lists of choices without any. */
  misnamed() {
    const plain = (text) => text.toLowerCase().replace(/\s+/g, " ").trim();
    const others = [...document.querySelectorAll("button[aria-label], a[aria-label]")].filter((e) => e.checkVisibility() && !plain(e.getAttribute("aria-label")).includes(plain(e.innerText)));
    const strange = [...document.querySelectorAll("[role=listbox]")].filter((e) => e.checkVisibility() && (!e.children.length || e.querySelector(":scope > :not([role=option])")));
    return [...others, ...strange].map((e) => e.outerHTML);
  },

  /** The contrast of every text with what is behind it, by WCAG 2; for arrows 3 is enough, which counts as 4.5 here. */
  contrast() {
    const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
      pen.clearRect(0, 0, 1, 1);
      pen.fillStyle = colour;
      pen.fillRect(0, 0, 1, 1);
      return [...pen.getImageData(0, 0, 1, 1).data];
    };
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
    const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
    const behind = (e) => {
      for (; e; e = e.parentElement) {
        const colour = rgba(getComputedStyle(e).backgroundColor);
        if (colour[3] === 255) return colour;
      }
      return [255, 255, 255, 255];
    };
    const found = [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walk.nextNode());) {
      const e = node.parentElement;
      if (!node.data.trim() || !e.checkVisibility() || e.closest(".hidden, .skip, script, noscript, title, option")) continue;
      const box = e.closest(".node")?.querySelector("rect");
      const style = getComputedStyle(e);
      found.push([ratio(rgba(box ? style.fill : style.color), box ? rgba(getComputedStyle(box).fill) : behind(e)), node.data.trim().slice(0, 40)]);
    }
    for (const input of document.querySelectorAll("input[placeholder]")) {
      if (input.checkVisibility()) found.push([ratio(rgba(getComputedStyle(input, "::placeholder").color), behind(input)), "placeholder"]);
    }
    for (const tip of document.querySelectorAll(".drawing .edge:not(.gone, .dim, .against) .tip")) {
      found.push([1.5 * ratio(rgba(getComputedStyle(tip).fill), behind(tip.closest(".drawing"))), "an arrow"]);
    }
    return found;
  },

  /** Boxes that touch, labels that leave their box, lines over boxes, and what is outside of the drawing. */
  drawing() {
    const nodes = [...document.querySelectorAll(".drawing .node")];
    const boxes = nodes.map((node) => node.querySelector("rect").getBoundingClientRect());
    const frame = document.querySelector(".drawing").getBoundingClientRect();
    const wrong = [];
    nodes.forEach((node, i) => {
      const a = boxes[i];
      if (a.left < frame.left - 1 || a.right > frame.right + 1) wrong.push(`outside: ${node.textContent}`);
      boxes.forEach((b, j) => {
        if (j > i && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom) wrong.push(`boxes ${i} and ${j}`);
      });
      for (const text of node.querySelectorAll("text")) {
        const t = text.getBoundingClientRect();
        if (t.left < a.left || t.right > a.right || t.top < a.top - 1 || t.bottom > a.bottom + 1) wrong.push(`label: ${text.textContent}`);
      }
    });
    for (const path of document.querySelectorAll(".drawing .edge path:not(.tip)")) {
      for (let at = 0; at <= path.getTotalLength(); at += 2) {
        const { x, y } = path.getPointAtLength(at).matrixTransform(path.getScreenCTM());
        if (x > frame.right + 1 || x < frame.left - 1) wrong.push("a line outside");
        if (boxes.some((b) => x > b.left + 3 && x < b.right - 3 && y > b.top + 3 && y < b.bottom - 3)) {
          wrong.push("a line over a box");
          break;
        }
      }
    }
    return { wrong, nodes: nodes.length, edges: document.querySelectorAll(".drawing .edge").length };
  },
}
