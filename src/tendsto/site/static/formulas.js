// Set formulas with KaTeX where the browser can; the MathML that they replace is what readers without scripts see.
for (const math of document.querySelectorAll("math[alttext]")) {
  const span = document.createElement("span");
  try {
    katex.render(math.getAttribute("alttext"), span, {
      displayMode: math.closest(".formula") !== null,
      maxSize: 20,
      maxExpand: 200,
    });
    math.replaceWith(span);
  } catch {
    continue;
  }
}
