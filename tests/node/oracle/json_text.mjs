// JSON as text, because a parsed object does not show the order and repetition of its keys.

/** JSON text without white space, with numbers and strings as JavaScript writes them. The order of keys stays. */
export function normalised(text) {
  return text.replace(/"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\s+/g, (token) => {
    if (token[0] === '"') return JSON.stringify(JSON.parse(token));
    return /^\s/.test(token) ? '' : String(Number(token));
  });
}

/** The texts of an object's members. Unlike `JSON.parse` it shows a key that appears twice. */
export function members(text) {
  const found = [];
  let [depth, start] = [0, 1];
  const add = (end) => {
    const key = /^"(?:[^"\\]|\\.)*"/.exec(text.slice(start, end))?.[0];
    if (key) found.push([JSON.parse(key), text.slice(start + key.length + 1, end)]);
    start = end + 1;
  };
  for (const match of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],]/g)) {
    if (match[0] === '{' || match[0] === '[') depth += 1;
    if (match[0] === '}' || match[0] === ']') depth -= 1;
    if ((match[0] === ',' && depth === 1) || depth === 0) add(match.index);
  }
  return found;
}
