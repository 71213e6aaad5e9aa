/** `tandem models`: verifies the bundles of a folder. */
import { readdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { packageFolder, readConfig, type Config } from '../config.js'
import { openBundle } from '../model/bundle/open.js'
import { printLine, type Terminal } from './terminal.js'

export function addModelsCommand(program: Command, terminal: Terminal): void {
  program
    .command('models')
    .description('list the bundles of a folder and verify each')
    .argument('[folder]', 'folder of bundles', join(packageFolder, 'models'))
    .action(async (folder: string) => {
      const { lines, broken } = await listBundles(resolve(folder), readConfig(process.env))
      for (const line of lines) printLine(terminal.out, line)
      if (broken > 0) process.exitCode = 1
    })
}

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

async function listBundles(
  folder: string,
  config: Config,
): Promise<{ lines: string[]; broken: number }> {
  const lines: string[] = []
  let broken = 0
  for (const path of await bundleFolders(folder)) {
    const mark = path === config.modelFolder ? '*' : ' '
    try {
      const { manifest, fingerprint } = await openBundle(path)
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
