/** `tandem models`: verifies the bundles of a folder, and adds models of other layouts. */
import { existsSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { InvalidArgumentError, type Command } from 'commander'
import { packageFolder, readConfig, type Config } from '../config.js'
import { languagesOf } from '../model/bundle/bundle.js'
import { openBundle } from '../model/bundle/open.js'
import { fetchModel } from '../model-hub/fetch-model.js'
import { hubModel } from '../model-hub/hub.js'
import { hubSettings } from '../model-hub/settings.js'
import { bundleName, importModel, type Imported } from '../model-import/import.js'
import { knownModelLines, knownModels, machineMemory } from '../model-import/known-models.js'
import { neededFiles } from '../model-import/needed-files.js'
import { printLine, type Terminal } from './terminal/terminal.js'

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
    .description('list the bundles of a folder, verify each, and name models worth adding')
    .argument('[folder]', 'folder of bundles', bundlesFolder)
    .action(async (folder: string) => {
      const { lines, broken } = await listBundles(resolve(folder), readConfig(process.env))
      for (const line of lines) printLine(terminal.out, line)
      if (resolve(folder) === bundlesFolder)
        for (const line of await worthAdding()) printLine(terminal.out, line)
      if (broken > 0) process.exitCode = 1
    })
  models
    .command('add')
    .description(
      'make a bundle of a model in the layout of transformers.js, Immich or clip-as-service',
    )
    .argument('<model>', 'folder of the model, or owner/name[@revision] of the hub')
    .option('--name <name>', 'name of the bundle (default: that of the model)', bundleNameOption)
    .option('--variant <variant>', 'which graphs: fp32, int8, q8, uint8, q4 (default: fp32)')
    .option('--tokenizer <file>', 'tokenizer.json for a folder without one')
    .option('--preprocess <rule>', 'clip or siglip, for a folder that describes no pixels')
    .option('--into <folder>', 'folder of bundles', bundlesFolder)
    .action(async (model: string, { into, ...options }: AddOptions) => {
      const progress = (sentence: string): void => printLine(terminal.err, sentence)
      const found = await sourceOf(model, options.variant, progress)
      const all = { ...found, ...options, into: resolve(into), progress }
      for (const line of summary(await importModel(found.folder, all)))
        printLine(terminal.out, line)
    })
}

async function worthAdding(): Promise<string[]> {
  const known = await knownModels(join(bundlesFolder, 'known-models.json'))
  return [
    '',
    'Worth adding, with `tandem models add NAME`:',
    ...knownModelLines(known, machineMemory()),
  ]
}

/** A folder, or the snapshot of a model that is fetched from the hub. */
async function sourceOf(
  model: string,
  variant: string | undefined,
  progress: (sentence: string) => void,
): Promise<{ folder: string; source?: string; name?: string }> {
  const named = existsSync(model) ? null : hubModel(model)
  if (named === null) return { folder: resolve(model) }
  const { id } = named
  progress(`There is no folder ${model}; looks for it on the hub.`)
  const { folder, commit } = await fetchModel(named, {
    settings: hubSettings(process.env),
    choose: (names) => neededFiles(names, variant, id),
    progress,
  })
  return { folder, source: `${id}@${commit}`, name: bundleName(id) }
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
      const { name, version, embedding, image_tokens: tokens, files } = manifest
      const fusion =
        tokens === undefined ? 'no fusion encoder' : `image tokens ${tokens.count}×${tokens.width}`
      const mib = files.reduce((sum, { bytes }) => sum + bytes, 0) / 1024 ** 2
      lines.push(
        `${mark} ${name} ${version}  fingerprint ${fingerprint}  dim ${embedding.dim}  ` +
          `${fusion}  ${languagesOf(manifest).join(',')}  ${mib.toFixed(0)} MiB  verified`,
        `    ${path}`,
      )
    } catch (error) {
      broken += 1
      lines.push(`${mark} broken: ${(error as Error).message}`, `    ${path}`)
    }
  }
  return { lines: lines.length > 0 ? lines : ['No bundles.'], broken }
}
