/**
 * One file of a bundle: inside its folder, and with the size and the SHA-256 that the manifest
 * says.
 */
import { createHash } from 'node:crypto'
import { open, readFile, realpath } from 'node:fs/promises'
import { isAbsolute, join, sep } from 'node:path'
import { BundleError } from './bundle.js'
import type { Bundle } from './bundle.js'
import type { FileEntry } from './bundle.js'

/**
 * So many bytes of a file are read at a time where they are only verified: what is read is not
 * kept.
 */
const PIECE = 2 ** 18

/**
 * The bytes of one file of the bundle: those that were verified, not those that lie there a moment
 * later.
 * @throws BundleError when the file is not listed, lies outside the bundle, or differs from the
 *   manifest
 */
export async function readBundleFile(bundle: Bundle, path: string): Promise<Buffer> {
  const entry = listed(bundle, path)
  const bytes = await readFile(await located(bundle, path)).catch(unreadable(bundle, path))
  check(bundle, entry, bytes.length, createHash('sha256').update(bytes).digest('hex'))
  return bytes
}

/**
 * @throws BundleError where the file is not the one of the manifest; only a piece of it is in
 * memory at a time
 */
export async function verifyBundleFile(bundle: Bundle, entry: FileEntry): Promise<void> {
  const { path } = entry
  const file = await open(await located(bundle, path)).catch(unreadable(bundle, path))
  try {
    const hash = createHash('sha256')
    const piece = Buffer.allocUnsafe(PIECE)
    let read = 0
    for (;;) {
      const { bytesRead } = await file.read(piece, 0, PIECE).catch(unreadable(bundle, path))
      if (bytesRead === 0) break
      hash.update(piece.subarray(0, bytesRead))
      read += bytesRead
    }
    check(bundle, entry, read, hash.digest('hex'))
  } finally {
    await file.close()
  }
}

/** @throws BundleError where they are not those of the manifest */
function check(
  { folder }: Bundle,
  { path, ...says }: FileEntry,
  bytes: number,
  sha256: string,
): void {
  if (bytes !== says.bytes) {
    throw new BundleError(
      `${path} of the bundle in ${folder} has ${bytes} bytes; its manifest says ${says.bytes}.`,
    )
  }
  if (sha256 !== says.sha256) {
    throw new BundleError(
      `${path} of the bundle in ${folder} has the SHA-256 ${sha256}; its manifest says ${says.sha256}.`,
    )
  }
}

function unreadable({ folder }: Bundle, path: string): (error: Error) => never {
  return (error) => {
    throw new BundleError(`${path} of the bundle in ${folder} cannot be read: ${error.message}`)
  }
}

/** @throws BundleError */
export function listed({ folder, manifest }: Bundle, path: string): FileEntry {
  const entry = manifest.files.find((file) => file.path === path)
  if (entry === undefined) {
    throw new BundleError(
      `The bundle in ${folder} names ${path}, but its manifest does not list that file.`,
    )
  }
  return entry
}

/** Where `path` lies, links followed: inside the folder, or not at all. */
async function located({ folder }: Bundle, path: string): Promise<string> {
  const plain = !isAbsolute(path) && path.split('/').every((part) => /^[\w-][\w.-]*$/.test(part))
  if (!plain)
    throw new BundleError(
      `The bundle in ${folder} lists "${path}", which is not a plain relative name.`,
    )
  const [root, file] = await Promise.all([realpath(folder), realpath(join(folder, path))]).catch(
    (error: Error) => {
      throw new BundleError(`${path} of the bundle in ${folder} cannot be read: ${error.message}`)
    },
  )
  if (!file.startsWith(root + sep)) {
    throw new BundleError(`${path} of the bundle in ${folder} is a link that leads out of it.`)
  }
  return file
}
