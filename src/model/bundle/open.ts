import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { BundleError, textEncodersOf, type Bundle } from './bundle.js'
import { listed, verifyBundleFile } from './bundle-file.js'
import { fingerprintOf } from './fingerprint.js'
import { parseManifest } from './manifest-schema.js'

/**
 * Checks the manifest of a bundle against the schema and every file against its size and SHA-256.
 * @throws BundleError
 */
export async function openBundle(folder: string): Promise<Bundle> {
  const bundle = await readManifest(folder)
  await Promise.all(bundle.manifest.files.map((entry) => verifyBundleFile(bundle, entry)))
  return bundle
}

async function readManifest(folder: string): Promise<Bundle> {
  const source = join(folder, 'manifest.json')
  const text = await readFile(source, 'utf8').catch((error: Error) => {
    throw new BundleError(`There is no model bundle in ${folder}: ${error.message}`)
  })
  const manifest = parseManifest(text, source)
  const bundle = { folder, manifest, fingerprint: fingerprintOf(manifest) }
  const { image_encoder, fusion_encoder, goldens } = manifest
  const texts = textEncodersOf(manifest)
  for (const path of [
    image_encoder.file,
    ...texts.flatMap(({ file, tokenizer }) => [file, tokenizer]),
    fusion_encoder?.file,
    fusion_encoder?.image_encoder?.file,
    fusion_encoder?.tokenizer,
    goldens,
  ]) {
    if (path !== undefined) listed(bundle, path)
  }
  return bundle
}
