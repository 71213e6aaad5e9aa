/** `tandem models`: the bundles of a folder, each verified. */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { packageFolder, type Config } from '../config.js'
import { verifyBundle } from '../model/models.js'

async function bundleFolders(folder: string): Promise<string[]> {
  const entries = await readdir(folder)
  const found = await Promise.all(
    entries.sort().map(async (name) => {
      const path = join(folder, name)
      return (await stat(path)).isDirectory() ? [path] : []
    }),
  )
  return found.flat()
}

/** A line for each folder: what the bundle is, or what is wrong with it. */
export async function listBundles(
  folder: string | undefined,
  config: Config,
): Promise<{ lines: string[]; broken: number }> {
  const lines: string[] = []
  let broken = 0
  for (const path of await bundleFolders(folder ?? join(packageFolder, 'models'))) {
    const mark = path === config.modelFolder ? '*' : ' '
    try {
      const { manifest, fingerprint } = await verifyBundle(path)
      const { name, version, languages, embedding, image_tokens: tokens, files } = manifest
      const fusion =
        tokens === undefined ? 'no fusion encoder' : `image tokens ${tokens.count}×${tokens.width}`
      const mib = files.reduce((sum, { bytes }) => sum + bytes, 0) / 1024 ** 2
      lines.push(
        `${mark} ${name} ${version}  fingerprint ${fingerprint}  dim ${embedding.dim}  ` +
          `${fusion}  ${languages.join(',')}  ${mib.toFixed(0)} MiB  verified`,
        `    ${path}`,
      )
    } catch (error) {
      broken += 1
      lines.push(`${mark} broken: ${(error as Error).message}`, `    ${path}`)
    }
  }
  return { lines: lines.length > 0 ? lines : ['No bundles.'], broken }
}
