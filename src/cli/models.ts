/** `tandem models`: verifies the bundles of a folder, and adds models of other layouts. */
import { readdir, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { InvalidArgumentError, type Command } from 'commander'
import { packageFolder, readConfig, type Config } from '../config.js'
import { openBundle } from '../model/bundle/open.js'
import { importModel, type Imported } from '../model-import/import.js'
import { printLine, type Terminal } from './terminal.js'

interface AddOptions {
  into: string
  name?: string
  variant?: string
  tokenizer?: string
  preprocess?: string
}

const bundlesFolder = join(packageFolder, 'models')

export function addModelsCommand(program: Command, terminal: Terminal): void {
  const models = program
    .command('models')
    .description('list the bundles of a folder and verify each')
    .argument('[folder]', 'folder of bundles', bundlesFolder)
    .action(async (folder: string) => {
      const { lines, broken } = await listBundles(resolve(folder), readConfig(process.env))
      for (const line of lines) printLine(terminal.out, line)
      if (broken > 0) process.exitCode = 1
    })
  models
    .command('add')
    .description(
      'make a bundle of a model in the layout of transformers.js, Immich or clip-as-service',
    )
    .argument('<folder>', 'folder of the model')
    .option('--name <name>', 'name of the bundle (default: that of the folder)', bundleNameOption)
    .option('--variant <variant>', 'which graphs: fp32, int8, q8, uint8, q4 (default: fp32)')
    .option('--tokenizer <file>', 'tokenizer.json for a folder without one')
    .option('--preprocess <rule>', 'clip or siglip, for a folder that describes no pixels')
    .option('--into <folder>', 'folder of bundles', bundlesFolder)
    .action(async (folder: string, { into, ...options }: AddOptions) => {
      const progress = (sentence: string): void => printLine(terminal.err, sentence)
      const all = { ...options, into: resolve(into), progress }
      for (const line of summary(await importModel(resolve(folder), all)))
        printLine(terminal.out, line)
    })
}

function bundleNameOption(raw: string): string {
  if (/^[a-z0-9][a-z0-9-]{0,63}$/.test(raw)) return raw
  throw new InvalidArgumentError('Expected lower-case letters, digits and hyphens.')
}

function summary({ folder, manifest, bytes, cosine, milliseconds, notes }: Imported): string[] {
  const { license, commercial_use: commerce, image_encoder: image, text_encoder: text } = manifest
  const { text: textMs, image: imageMs } = milliseconds
  return [
    `License: ${license}${commerce === false ? ' (forbids commercial use)' : ''}`,
    `Size: ${(bytes / 1024 ** 2).toFixed(0)} MiB, embeddings of ${manifest.embedding.dim} numbers, images of ${image.size} px, texts of ${text.max_tokens} tokens`,
    `Speed of the graphs on this machine: ${textMs.toFixed(1)} ms a text, ${imageMs.toFixed(1)} ms an image`,
    `Least cosine with the original graphs: ${cosine.toFixed(6)}`,
    ...notes.map((note) => `Note: ${note}`),
    `Added: ${folder}`,
    `Serve it with TANDEM_MODEL=${dirname(folder) === bundlesFolder ? manifest.name : folder}`,
  ]
}

async function bundleFolders(folder: string): Promise<string[]> {
  const entries = await readdir(folder)
  const found = await Promise.all(
    entries.sort().map(async (name) => {
      const path = join(folder, name)
      return !name.startsWith('.') && (await stat(path)).isDirectory() ? [path] : []
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
