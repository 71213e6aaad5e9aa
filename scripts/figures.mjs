// Writes the figures of README.md between its two markers. Usage:
// npx tandem evaluate <dataset> --json > figures.json && node scripts/figures.mjs figures.json
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const BEGIN = '<!-- figures:begin -->'
const END = '<!-- figures:end -->'
const readme = fileURLToPath(new URL('../README.md', import.meta.url))

const figure = (value) => value.toFixed(1)
const row = (label, { r1, r5, r10 }) => `| ${label} | ${[r1, r5, r10].map(figure).join(' | ')} |`

/** "Rerank moves text→image R@1 from 23.7 to 26.1 (+2.4)." */
function gain(direction, { similarity, rerank }) {
  const change = rerank.r1 - similarity.r1
  const sign = change < 0 ? '−' : '+'
  return `${direction} R@1 from ${figure(similarity.r1)} to ${figure(rerank.r1)} (${sign}${figure(Math.abs(change))})`
}

function table({
  bundle,
  images,
  captions,
  candidates,
  text_to_image: textToImage,
  image_to_text: imageToText,
}) {
  return [
    `Bundle ${bundle}: ${images} photos, ${captions} captions, rerank of ${candidates} candidates.`,
    '',
    '| | R@1 | R@5 | R@10 |',
    '|---|---:|---:|---:|',
    row('sentence → photo, with rerank', textToImage.rerank),
    row('sentence → photo, similarity alone', textToImage.similarity),
    row('photo → sentence, with rerank', imageToText.rerank),
    row('photo → sentence, similarity alone', imageToText.similarity),
    '',
    `Rerank moves ${gain('sentence → photo', textToImage)}, and ${gain('photo → sentence', imageToText)}.`,
  ].join('\n')
}

const [path] = process.argv.slice(2)
if (path === undefined)
  throw new Error('usage: node scripts/figures.mjs <output of tandem evaluate --json>')
const text = readFileSync(readme, 'utf8')
const [before, rest] = text.split(BEGIN)
const after = rest?.split(END)[1]
if (after === undefined) throw new Error(`README.md lacks ${BEGIN} and ${END}`)
const written = table(JSON.parse(readFileSync(path, 'utf8')))
writeFileSync(readme, `${before}${BEGIN}\n${written}\n${END}${after}`)
