/** The card of an imported bundle, README.md of its folder. */
import type { Manifest } from '../model/bundle/bundle.js'
import type { ForeignModel } from './foreign.js'

/** @param notes - what is not known, and what a user may not expect */
export function cardOf(
  foreign: ForeignModel,
  manifest: Manifest,
  notes: readonly string[],
): string {
  const {
    name,
    version,
    license,
    commercial_use: commerce,
    embedding,
    image_encoder: image,
  } = manifest
  const { text_encoder: text } = manifest
  const pixels = `${image.size} × ${image.size} px, ${image.fit ?? 'fill'}, ${image.resample ?? 'bicubic'}`
  const lines = [
    `# ${name} ${version}`,
    '',
    `Dual encoder imported by \`tandem models add\` from ${foreign.source}.`,
    '',
    `- Layout: ${foreign.layout}.`,
    `- License of the weights: ${license}.${commerce === false ? ' **It forbids commercial use.**' : ''}`,
    `- Embedding: ${embedding.dim} numbers. Images: ${pixels}. Texts: ${text.max_tokens} tokens at most. Graphs compute in ${text.precision ?? 'fp32'}.`,
    '- No fusion encoder: nothing is reranked, and `match` follows from the similarity.',
    ...notes.map((note) => `- ${note}`),
    '',
  ]
  return lines.join('\n')
}
