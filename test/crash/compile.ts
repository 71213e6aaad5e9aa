/** Compiles the program that is killed, because starting it from source would take too long. */
import { mkdir, mkdtemp, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import ts from 'typescript'
import { packageFolder } from '../../src/config.js'

const FOLDERS = ['src', 'test/crash', 'test/support']
/**
 * So that the few items here are migrated in several batches, between which the process can die.
 */
const REPLACED = { in: 'migration.ts', from: 'const BATCH = 512', to: 'const BATCH = 16' }

/**
 * @returns a temporary folder with the compiled sources as they lie in the package; the caller
 * removes it
 */
export async function compileSources(): Promise<string> {
  const to = await mkdtemp(join(tmpdir(), 'tandem-crash-built-'))
  await symlink(join(packageFolder, 'node_modules'), join(to, 'node_modules'))
  await writeFile(join(to, 'package.json'), '{"type": "module"}')
  for (const folder of FOLDERS) {
    const names = await readdir(join(packageFolder, folder), { recursive: true })
    for (const name of names.filter((one) => /\.ts$/.test(one) && !/\.(d|test)\.ts$/.test(one))) {
      const source = replaced(
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
      const file = join(to, folder, name.replace(/\.ts$/, '.js'))
      await mkdir(dirname(file), { recursive: true })
      await writeFile(file, outputText)
    }
  }
  return to
}

function replaced(name: string, source: string): string {
  if (name !== REPLACED.in) return source
  if (!source.includes(REPLACED.from)) throw new Error(`${name} has no "${REPLACED.from}"`)
  return source.replace(REPLACED.from, REPLACED.to)
}
