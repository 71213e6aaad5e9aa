/** Reads and verifies files of a bundle: inside its folder, with the size and SHA-256 listed. */
import { createHash } from 'node:crypto'
import { readFile, realpath } from 'node:fs/promises'
import { isAbsolute, join, sep } from 'node:path'
import { sha256OfFile } from '../../files/sha256.js'
import { BundleError } from './bundle.js'
import type { Bundle } from './bundle.js'
import type { FileEntry } from './bundle.js'

/**
 * Reads a file of the bundle and verifies the bytes that it returns.
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
 * Verifies a file without loading it as a whole.
 * @throws BundleError when it differs from the manifest
 */
export async function verifyBundleFile(bundle: Bundle, entry: FileEntry): Promise<void> {
  const { path } = entry
  const { bytes, sha256 } = await sha256OfFile(await located(bundle, path)).catch(
    unreadable(bundle, path),
  )
  check(bundle, entry, bytes, sha256)
}

/** @throws BundleError when size or digest differ from the manifest */
function check(
  { folder }: Bundle,
  { path, ...expected }: FileEntry,
  bytes: number,
  sha256: string,
): void {
  if (bytes !== expected.bytes) {
    throw new BundleError(
      `${path} of the bundle in ${folder} has ${bytes} bytes; its manifest says ${expected.bytes}.`,
    )
  }
  if (sha256 !== expected.sha256) {
    throw new BundleError(
      `${path} of the bundle in ${folder} has the SHA-256 ${sha256}; its manifest says ${expected.sha256}.`,
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

/** The real path of a file. @throws BundleError when it is outside the folder */
async function located({ folder }: Bundle, path: string): Promise<string> {
  const isPlain = !isAbsolute(path) && path.split('/').every((part) => /^[\w-][\w.-]*$/.test(part))
  if (!isPlain)
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
