// Puts what the binary embeds into dist/: GraphiQL and what it needs from node_modules, our own page,
// the licences, and a .gz beside each file, which is what most browsers are sent.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { constants, gzipSync } from 'node:zlib';

const here = fileURLToPath(new URL('.', import.meta.url));
const dist = join(here, 'dist');

const vendored = {
  'graphiql.min.js': 'graphiql/graphiql.min.js',
  'graphiql.min.css': 'graphiql/graphiql.min.css',
  'react.production.min.js': 'react/umd/react.production.min.js',
  'react-dom.production.min.js': 'react-dom/umd/react-dom.production.min.js',
  'explorer.umd.js': '@graphiql/plugin-explorer/dist/index.umd.js',
  'explorer.css': '@graphiql/plugin-explorer/dist/style.css',
};
const own = ['favicon.svg', 'graphiql.html', 'page.css', 'page.js', 'subscribe.js', 'tabs.js'];

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist);

function put(name, content) {
  writeFileSync(join(dist, name), content);
  writeFileSync(join(dist, `${name}.gz`), gzipSync(content, { level: constants.Z_BEST_COMPRESSION }));
}

for (const [name, from] of Object.entries(vendored)) {
  // A source map that is not there would be asked for by every opened debugger.
  const content = readFileSync(join(here, 'node_modules', from), 'utf8').replace(/\n\/[/*]# sourceMappingURL=.*/g, '');
  put(name, content);
}
for (const name of own) put(name, readFileSync(join(here, 'src', name)));

const packages = [...new Set(Object.values(vendored).map((from) => from.match(/^(@[^/]+\/)?[^/]+/)[0]))];
const licences = packages.map((name) => {
  const { version, license } = JSON.parse(readFileSync(join(here, 'node_modules', name, 'package.json')));
  let text = '';
  try {
    text = readFileSync(join(here, 'node_modules', name, 'LICENSE'), 'utf8');
  } catch {
    text = `Licence: ${license}\n`;
  }
  return `${name} ${version} (${license})\n\n${text}`;
});
put('LICENSES.txt', licences.join(`\n${'-'.repeat(80)}\n\n`));

console.log(`web/dist: ${Object.keys(vendored).length + own.length} files (${basename(dist)}/LICENSES.txt lists ${packages.length} packages)`);
