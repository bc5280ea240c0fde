// Changes the nodes that are there into those of `to`, so that focus, scrolling, selection and what was opened stay.
// Elements with the same data-key are the same thing, wherever they stand; what is inside [data-keep] is left alone.
export function morph(from, to) {
  if (from.isEqualNode(to)) return from;
  if (!isSameThing(from, to)) {
    const fresh = to.cloneNode(true);
    from.replaceWith(fresh);
    return fresh;
  }
  if (from.nodeType !== Node.ELEMENT_NODE) {
    from.nodeValue = to.nodeValue;
    return from;
  }
  copyAttributes(from, to);
  if (!from.hasAttribute("data-keep")) morphChildren(from, to);
  return from;
}

function isSameThing(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
}

function keyOf(node) {
  return node.dataset?.key;
}

function copyAttributes(from, to) {
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && name !== "open") from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (name !== "open" && from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
}

function morphChildren(from, to) {
  const keyed = new Map([...from.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let place = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const known = keyed.get(keyOf(wanted));
    if (known && known !== place) from.insertBefore(known, place);
    const current = known ?? (place && !keyed.has(keyOf(place)) ? place : null);
    if (!current) {
      from.insertBefore(wanted.cloneNode(true), place);
      continue;
    }
    const next = current === place ? place.nextSibling : place;
    morph(current, wanted);
    place = next;
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}
