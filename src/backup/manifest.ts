/** `manifest.json` of a backup, its last file to be written. */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { flush, writeFlushed } from '../files/flush.js'
import { sha256OfFile } from '../files/sha256.js'
import { DATA_FILE } from '../item-store/copy.js'

const MANIFEST = 'manifest.json'
const FORMAT = 1

export interface Manifest {
  format: number
  /** ISO 8601, UTC: start of the backup. */
  createdAt: string
  /** Of the bundle that made the embeddings. */
  fingerprint: string
  items: number
  /** Number of the last change that it contains. */
  position: number
  /** Of the copy of the item store. */
  files: { path: string; bytes: number; sha256: string }[]
}

/** @throws Error whose message ends a sentence; an error of the system if there is no manifest */
export async function readManifest(folder: string): Promise<Manifest> {
  const text = await readFile(join(folder, MANIFEST), 'utf8')
  const manifest = parsed(text)
  if (manifest === undefined) throw new Error(`${MANIFEST} cannot be read`)
  if (manifest.format !== FORMAT) throw new Error(`it has format ${manifest.format}, not ${FORMAT}`)
  return manifest
}

function parsed(text: string): Manifest | undefined {
  try {
    const { digest, ...manifest } = JSON.parse(text) as Manifest & { digest?: string }
    const isWhole = digest === undefined || digest === digestOf(manifest)
    return isWhole && isManifest(manifest) ? manifest : undefined
  } catch {
    return undefined
  }
}

function isManifest({ createdAt, fingerprint, items, position, files }: Manifest): boolean {
  const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && Number(value) >= 0
  return (
    !Number.isNaN(Date.parse(createdAt)) &&
    typeof fingerprint === 'string' &&
    isCount(items) &&
    isCount(position) &&
    files.some(({ path }) => path === DATA_FILE) &&
    files.every(
      ({ path, bytes, sha256 }) =>
        /^[\w-]+\.[\w-]+$/.test(path) && isCount(bytes) && /^[0-9a-f]{64}$/.test(sha256),
    )
  )
}

function digestOf(manifest: Manifest): string {
  return createHash('sha256').update(JSON.stringify(manifest)).digest('hex')
}

/** Writes the manifest, with a digest of itself, and flushes it to the disk. */
export async function writeManifest(
  folder: string,
  manifest: Omit<Manifest, 'format'>,
): Promise<Manifest> {
  const whole = { format: FORMAT, ...manifest }
  const text = `${JSON.stringify({ ...whole, digest: digestOf(whole) }, null, 2)}\n`
  await writeFlushed(join(folder, MANIFEST), text, { flags: 'wx' })
  return whole
}

/** Flushes the files of `folder` and lists them. */
export async function filesOf(folder: string): Promise<Manifest['files']> {
  const files: Manifest['files'] = []
  for (const path of (await readdir(folder)).sort()) {
    await flush(join(folder, path))
    files.push({ path, ...(await sha256OfFile(join(folder, path))) })
  }
  await flush(folder)
  return files
}
