#!/usr/bin/env node
/** Runs the `tandem` command. */
import { tandemProgram } from './cli/program.js'
import { printLine } from './cli/terminal/terminal.js'

const terminal = { out: process.stdout, err: process.stderr }
try {
  await tandemProgram(terminal, () => import('./server.js')).parseAsync()
} catch (error) {
  printLine(terminal.err, `tandem: ${(error as Error).message}`)
  process.exitCode = 1
}
