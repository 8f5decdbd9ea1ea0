// Clicks through GraphiQL's docs from the root page, as a reader would: every type by its links, every field of it.
// A generator, so that the test waits for one type at a time: `await walk.next()` reads the next type, and in the end
// gives the names of the types and the number of fields. Fails with the path of clicks at which the page went blank.
globalThis.walk = (async function* () {
  const PATIENCE_MS = 10_000;
  const panel = () => document.querySelector('.graphiql-doc-explorer');
  const title = () => panel()?.querySelector('.graphiql-doc-explorer-title')?.textContent;
  const links = (kind) => [...panel().querySelectorAll(`.graphiql-doc-explorer-content .graphiql-doc-explorer-${kind}`)];
  const frame = () => new Promise((next) => { requestAnimationFrame(next); });
  const path = [];

  async function shown(name) {
    const deadline = performance.now() + PATIENCE_MS;
    const isShown = () => title() === name && panel().querySelector('.graphiql-doc-explorer-content').textContent.trim();
    while (!isShown()) {
      if (performance.now() > deadline) throw new Error(`${path.join(' > ')}: ${title() ?? 'a blank page'}`);
      await frame();
    }
  }

  /** Opens a link, visits what is on its page, and goes back. */
  async function* open(kind, name, visit) {
    const before = title();
    path.push(name);
    links(kind).find((link) => link.textContent === name).click();
    await shown(name);
    yield* visit();
    path.pop();
    panel().querySelector('.graphiql-doc-explorer-back').click();
    await shown(before);
  }

  const names = (kind) => new Set(links(kind).map((link) => link.textContent));
  const types = new Set();
  let n_fields = 0;
  async function* visit() {
    for (const field of names('field-name')) {
      yield* open('field-name', field, async function* () { n_fields += 1; });
    }
    yield;
    for (const name of names('type-name')) {
      if (types.has(name)) continue;
      types.add(name);
      yield* open('type-name', name, visit);
    }
  }

  document.querySelector('button[aria-label="Show Documentation Explorer"]')?.click();
  await shown('Docs');
  yield* visit();
  return { types: [...types].sort(), n_fields };
})();
null;
