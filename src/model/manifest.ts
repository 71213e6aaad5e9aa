/** `manifest.json` of a bundle: its shape, and the check against `models/manifest.schema.json`, which training shares. */
import { readFileSync } from 'node:fs'
import { Ajv } from 'ajv'
import { BundleError } from './bundle-error.js'

export interface Manifest {
  schema_version: 1
  name: string
  version: string
  description: string
  license: string
  languages: string[]
  embedding: { dim: number }
  image_tokens: { count: number; width: number; dtype: 'int8' }
  image_encoder: { file: string; size: number; fit: 'fill' }
  text_encoder: { file: string; tokenizer: string; max_tokens: number; token_width: number }
  fusion_encoder: { file: string }
  /** match = sigmoid(logit × ITM logit + similarity × cosine + bias) */
  match: { logit: number; similarity: number; bias: number }
  rerank: { default: boolean; candidates: number }
  goldens: string
  metrics: Record<string, unknown>
  files: FileEntry[]
}

/** A file of the bundle: relative path, size, and SHA-256 in hexadecimal. */
export interface FileEntry {
  path: string
  bytes: number
  sha256: string
}

const schema = new URL('../../models/manifest.schema.json', import.meta.url)
const validate = new Ajv({ allErrors: true, strict: false }).compile<Manifest>(
  JSON.parse(readFileSync(schema, 'utf8')) as object,
)

/**
 * @param source where `text` comes from, for the message
 * @throws BundleError naming every field that does not fit
 */
export function parseManifest(text: string, source: string): Manifest {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new BundleError(`${source} is not JSON: ${(error as Error).message}`)
  }
  if (validate(value)) return value
  const problems = (validate.errors ?? []).map(({ instancePath, message, params }) => {
    const extra = 'additionalProperty' in params ? ` ("${String(params.additionalProperty)}")` : ''
    return `${instancePath === '' ? 'the manifest' : instancePath} ${message}${extra}`
  })
  throw new BundleError(`${source} does not fit the manifest schema: ${problems.join('; ')}`)
}
