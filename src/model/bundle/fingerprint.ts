import { createHash } from 'node:crypto'
import type { Manifest } from './bundle.js'

/**
 * 16 hexadecimal digits that are the same for two bundles whose embeddings and tokens can be mixed:
 * SHA-256 over the shapes and the graph and tokenizer files. Metrics, card and calibration may
 * change without embedding anything again.
 */
export function fingerprintOf(manifest: Manifest): string {
  const { embedding, image_tokens, image_encoder, text_encoder, fusion_encoder } = manifest
  const others = manifest.other_text_encoders?.map(({ file, tokenizer, max_tokens, precision }) => {
    return { file, tokenizer, max_tokens, precision }
  })
  const textFiles = [text_encoder, ...(others ?? [])].flatMap((text) => [text.file, text.tokenizer])
  const fusionFiles = [
    fusion_encoder?.file,
    fusion_encoder?.image_encoder?.file,
    fusion_encoder?.tokenizer,
  ].filter((path) => path !== undefined)
  const paths = [image_encoder.file, ...textFiles, ...fusionFiles]
  const files = Object.fromEntries(
    paths.map((path) => [path, manifest.files.find((entry) => entry.path === path)?.sha256]),
  )
  const encoders = { image_encoder, text_encoder, other_text_encoders: others, fusion_encoder }
  const parts = { embedding, image_tokens, ...encoders, files }
  return createHash('sha256').update(canonicalJson(parts)).digest('hex').slice(0, 16)
}

/** JSON without spaces or absent fields, keys in the order of their UTF-16 units. */
function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const fields = Object.entries(value)
    .filter(([, field]) => field !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${fields.map(([key, field]) => `${JSON.stringify(key)}:${canonicalJson(field)}`).join(',')}}`
}
