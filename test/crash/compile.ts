/** Compiles the program that is killed, because it starts too slowly from its sources. */
import { mkdir, mkdtemp, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import ts from 'typescript'
import { packageFolder } from '../../src/config.js'

const FOLDERS = ['src', 'test/crash', 'test/support']
/** Smaller batches, so that the process can be killed between the batches of a migration. */
const REPLACEMENT = { file: 'migration.ts', old: 'const BATCH = 512', new: 'const BATCH = 16' }

/** @returns a temporary folder with the compiled sources; the caller removes it */
export async function compileSources(): Promise<string> {
  const target = await mkdtemp(join(tmpdir(), 'tandem-crash-built-'))
  await symlink(join(packageFolder, 'node_modules'), join(target, 'node_modules'))
  await writeFile(join(target, 'package.json'), '{"type": "module"}')
  for (const folder of FOLDERS) {
    const names = await readdir(join(packageFolder, folder), { recursive: true })
    for (const name of names.filter(
      (path) => /\.ts$/.test(path) && !/\.(d|test)\.ts$/.test(path),
    )) {
      const source = withReplacement(
        basename(name),
        await readFile(join(packageFolder, folder, name), 'utf8'),
      )
      const { outputText } = ts.transpileModule(source, {
        compilerOptions: {
          target: ts.ScriptTarget.ES2022,
          module: ts.ModuleKind.ESNext,
          verbatimModuleSyntax: true,
        },
      })
      const file = join(target, folder, name.replace(/\.ts$/, '.js'))
      await mkdir(dirname(file), { recursive: true })
      await writeFile(file, outputText)
    }
  }
  return target
}

function withReplacement(name: string, source: string): string {
  if (name !== REPLACEMENT.file) return source
  if (!source.includes(REPLACEMENT.old)) throw new Error(`${name} has no "${REPLACEMENT.old}"`)
  return source.replace(REPLACEMENT.old, REPLACEMENT.new)
}
