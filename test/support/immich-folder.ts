/** A small model in the layout of Immich. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const bundle = fileURLToPath(new URL('../fixtures/tiny-dual-bundle', import.meta.url))

/** The graphs of the tiny bundle in the layout of Immich. */
export function makeImmichFolder(folder: string): string {
  for (const half of ['visual', 'textual']) mkdirSync(join(folder, half), { recursive: true })
  copyFileSync(join(bundle, 'image-encoder.onnx'), join(folder, 'visual/model.onnx'))
  copyFileSync(join(bundle, 'text-encoder.onnx'), join(folder, 'textual/model.onnx'))
  copyFileSync(join(bundle, 'tokenizer.json'), join(folder, 'textual/tokenizer.json'))
  const pad = JSON.parse(readFileSync(join(bundle, 'tokenizer.json'), 'utf8')) as {
    added_tokens: { id: number; content: string }[]
  }
  const files = {
    'config.json': {
      embed_dim: 8,
      vision_cfg: { image_size: 32 },
      text_cfg: { context_length: 12, hf_tokenizer_name: 'a/b' },
    },
    'visual/preprocess_cfg.json': {
      size: 32,
      mean: [0, 0, 0],
      std: [1, 1, 1],
      interpolation: 'bicubic',
      resize_mode: 'squash',
    },
    'textual/tokenizer_config.json': { pad_token: pad.added_tokens[0]?.content },
  }
  for (const [name, content] of Object.entries(files))
    writeFileSync(join(folder, name), JSON.stringify(content))
  return folder
}
