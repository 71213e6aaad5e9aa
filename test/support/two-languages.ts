/**
 * The tiny bundle with a second text encoder, for German and Chinese, to which a dog is a sea and
 * "dogs" a word.
 */
import { createHash } from 'node:crypto'
import { cp, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Manifest } from '../../src/model/bundle/bundle.js'

const fixture = (name: string): string =>
  fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url))

/** Of the second encoder; the first has another one. */
export const RULE = { logit: 0, similarity: 3, bias: 0.25 }

interface Goldens {
  texts: { text: string; token_ids: number[]; embedding: number[]; encoder?: number }[]
}

/** The folder of such a bundle, which the caller removes. */
export async function bundleOfTwoLanguages(
  edit: (manifest: Manifest, goldens: Goldens) => void = () => undefined,
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tandem-languages-'))
  await cp(fixture('tiny-bundle'), folder, { recursive: true })
  const other = fixture('tiny-dual-bundle')
  await cp(join(other, 'text-encoder.onnx'), join(folder, 'german-encoder.onnx'))
  const read = async <Value>(path: string): Promise<Value> =>
    JSON.parse(await readFile(path, 'utf8')) as Value
  const tokenizer = await read<{ model: { vocab: Record<string, number> } }>(
    join(other, 'tokenizer.json'),
  )
  const { vocab } = tokenizer.model
  const { dog = 0, sea = 0 } = vocab
  Object.assign(vocab, { dog: sea, sea: dog })
  // A word of its own for German, and two tokens for English.
  vocab['dogs'] = vocab['!'] ?? 0
  delete vocab['!']
  await writeFile(join(folder, 'german-tokenizer.json'), JSON.stringify(tokenizer))
  const manifest = await read<Manifest>(join(folder, 'manifest.json'))
  manifest.other_text_encoders = [
    {
      languages: ['de', 'zh'],
      file: 'german-encoder.onnx',
      tokenizer: 'german-tokenizer.json',
      max_tokens: 12,
      match: RULE,
    },
  ]
  const goldens = await read<Goldens>(join(folder, manifest.goldens))
  const others = await read<Goldens>(join(other, 'goldens.json'))
  goldens.texts.push(...others.texts.map((text) => ({ ...text, encoder: 1 })))
  edit(manifest, goldens)
  await writeFile(join(folder, manifest.goldens), JSON.stringify(goldens))
  const paths = new Set([
    ...manifest.files.map(({ path }) => path),
    'german-encoder.onnx',
    'german-tokenizer.json',
  ])
  manifest.files = await Promise.all(
    [...paths].map(async (path) => {
      const bytes = await readFile(join(folder, path))
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      return { path, bytes: bytes.length, sha256 }
    }),
  )
  await writeFile(join(folder, 'manifest.json'), JSON.stringify(manifest))
  return folder
}
