// For keyboards and screen readers. What is wider than its place can be scrolled by keys, too; whether it is depends
// on the width of the window. The theme's two side bars get the names that tell them apart.
(() => {
  const names = [
    ["pre", "Code"],
    [".table-wrapper", "Table"],
    ["div.math > div", "Formula"],
    ["div.cell_output, div.cell_output .output", "Output"],
    ["p:has(> img), a:has(> img)", "Picture"],
  ];
  const look = () => {
    for (const [places, name] of names) {
      for (const place of document.querySelectorAll(`article :is(${places})`)) {
        const scrolls =
          place.scrollWidth > place.clientWidth && /auto|scroll/.test(getComputedStyle(place).overflowX);
        if (scrolls && !place.matches("a")) {
          place.tabIndex = 0;
          place.setAttribute("role", "group");
          place.setAttribute("aria-label", name);
        } else if (place.getAttribute("role") === "group") {
          for (const attribute of ["tabindex", "role", "aria-label"]) place.removeAttribute(attribute);
        }
      }
    }
  };
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "All pages");
    document.querySelector(".toc-drawer")?.setAttribute("aria-label", "On this page");
    look();
    let waiting = 0;
    addEventListener("resize", () => {
      clearTimeout(waiting);
      waiting = setTimeout(look, 200);
    });
  });
  addEventListener("load", look); // pictures have their size now
})();
