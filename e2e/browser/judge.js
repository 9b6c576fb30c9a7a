var judge = (() => {
  const numbers = (color) => (color.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const alpha = (color) => { const n = numbers(color); return n.length > 3 ? n[3] : 1; };

  // Relative luminance and contrast ratio, as WCAG 2.2 defines them.
  const luminance = (color) => {
    const [r, g, b] = numbers(color).slice(0, 3).map((v) => {
      v /= 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [x, y] = [luminance(a), luminance(b)];
    return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
  };

  // What is behind an element: the frame of its box in a drawing, or the first ground that is opaque.
  const ground = (element) => {
    const box = element.closest("svg.box");
    if (box && !element.classList.contains("frame")) {
      return getComputedStyle(box.querySelector(".frame")).fill;
    }
    for (let e = element; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if (alpha(color) === 1 && color !== "transparent") {
        return color;
      }
    }
    return "rgb(255, 255, 255)";
  };
  const opaque = (element) => {
    for (let e = element; e; e = e.parentElement) {
      if (Number(getComputedStyle(e).opacity) < 1) {
        return false;
      }
    }
    return true;
  };

  const describe = (e) => ({
    Tag: e.tagName.toLowerCase(),
    Text: (e.getAttribute("aria-label") || e.textContent || e.name || "").trim().slice(0, 60),
    Href: e.getAttribute("href") || "",
  });
  const acted = "a[href], button, input, select, textarea, summary, [tabindex]";
  const all = () => [...document.querySelectorAll(acted)];

  return {
    controls: () => all().filter((e) => e.tabIndex >= 0 && e.checkVisibility()).map(describe),

    beyond: () => {
      const reached = new Set(all().filter((e) => e.tabIndex >= 0).map((e) => e.getAttribute("href")));
      return all().filter((e) => e.tabIndex < 0 && e.hasAttribute("href"))
        .map((e) => e.getAttribute("href")).filter((href) => !reached.has(href));
    },

    focused: () => {
      const e = document.activeElement;
      if (!e || e === document.body || e === document.documentElement) {
        return null;
      }
      const style = getComputedStyle(e);
      const at = e.getBoundingClientRect();
      return {
        ...describe(e),
        Outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
        Contrast: ratio(style.outlineColor, ground(e.parentElement)),
        Seen: at.bottom > 0 && at.top < innerHeight && at.right > 0 && at.left < innerWidth,
      };
    },

    contrasts: () => {
      const weak = [];
      let judged = 0;
      const check = (element, front, back, want, what) => {
        judged++;
        const got = ratio(front, back);
        if (got < want) {
          weak.push(`${what}: ${front} on ${back} has ${got.toFixed(2)}, want ${want} (${element.tagName} ` +
            `${element.getAttribute("class") || ""})`);
        }
      };
      const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      for (let node = texts.nextNode(); node; node = texts.nextNode()) {
        const e = node.parentElement;
        if (!node.data.trim() || e.closest("title, option") || !e.checkVisibility() || !opaque(e)) {
          continue;
        }
        const style = getComputedStyle(e);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        const front = e instanceof SVGElement ? style.fill : style.color;
        check(e, front, ground(e), large ? 3 : 4.5, JSON.stringify(node.data.trim().slice(0, 40)));
      }
      for (const e of document.querySelectorAll("svg .line, svg .frame, svg .cell, svg .dot, svg .mark")) {
        if (e.checkVisibility() && opaque(e)) {
          const cell = e.classList.contains("mark") && e.parentElement.querySelector(".cell");
          const back = cell ? getComputedStyle(cell).fill : ground(e.closest("svg"));
          check(e, getComputedStyle(e).stroke, back, 3, "a line");
        }
      }
      return { Weak: weak, Judged: judged };
    },
  };
})();
