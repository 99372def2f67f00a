// Curves of a training run: the values under the pointer, or under the arrow keys.
(() => {
  const source = document.getElementById("curves-data");
  if (!source) return;
  const curves = JSON.parse(source.textContent);
  const shown = (value, unit) =>
    unit === "share" ? (100 * value).toFixed(1) + "%" : unit === "count" ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(4)));
  for (const figure of document.querySelectorAll("[data-curve]")) {
    const { width, rows } = curves[figure.dataset.curve];
    const unit = figure.dataset.unit;
    const svg = figure.querySelector("svg.curve");
    const cursor = svg.querySelector(".cursor");
    const output = figure.querySelector("output");
    const usual = output.textContent;
    const first = rows[0][0], last = rows[rows.length - 1][0];
    let at = rows.length - 1;
    const show = () => {
      const [step, mean, low, high] = rows[at];
      const steps = width > 1 ? `steps ${step.toLocaleString("en")}–${(step + width - 1).toLocaleString("en")}` : `step ${step.toLocaleString("en")}`;
      output.textContent = `${steps}: ${shown(mean, unit)}` + (low === high ? "" : ` (${shown(low, unit)} – ${shown(high, unit)})`);
      const x = `${last > first ? (100 * (step - first)) / (last - first) : 0}%`;
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      cursor.setAttribute("visibility", "visible");
    };
    const hide = () => { output.textContent = usual; cursor.setAttribute("visibility", "hidden"); };
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const wanted = first + ((event.clientX - box.left) / box.width) * (last - first);
      let low = 0, high = rows.length - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (rows[middle][0] < wanted) low = middle + 1; else high = middle;
      }
      at = low > 0 && wanted - rows[low - 1][0] < rows[low][0] - wanted ? low - 1 : low;
      show();
    });
    svg.addEventListener("pointerleave", hide);
    svg.setAttribute("tabindex", "0");
    svg.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!move) return;
      event.preventDefault();
      at = Math.min(rows.length - 1, Math.max(0, at + move));
      show();
    });
    svg.addEventListener("blur", hide);
  }
})();
