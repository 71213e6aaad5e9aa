#!/usr/bin/env node
/** The `tandem` command. Each file of `cli/` adds one of its commands. */
import { Command } from 'commander'
import { addBackupCommands } from './cli/backup.js'
import { addBenchModelCommand } from './cli/bench-model.js'
import { addCalibrateCommand } from './cli/calibrate.js'
import { addCheckCommand } from './cli/check.js'
import { addEvaluateCommand } from './cli/evaluate.js'
import { addImagesCommand } from './cli/images.js'
import { addIndexCommand } from './cli/index-folder.js'
import { addKeyCommand } from './cli/key.js'
import { addMcpCommand } from './cli/mcp.js'
import { addMigrateCommand } from './cli/migrate.js'
import { addModelsCommand } from './cli/models.js'
import { addRebuildCommand } from './cli/rebuild.js'
import { addReembedCommands } from './cli/reembed.js'
import { addSearchCommand } from './cli/search.js'
import { printLine, type Terminal } from './cli/terminal.js'
import { packageInfo } from './config.js'

const terminal: Terminal = { out: process.stdout, err: process.stderr }
const program = new Command('tandem')
  .description('Image-text retrieval: store images and find them by sentences.')
  .version(packageInfo.version)
  .showHelpAfterError('(see --help)')

program.commandsGroup('Service:')
program
  .command('serve')
  .description('run the service until SIGTERM or Ctrl-C')
  .action(async () => {
    await import('./server.js')
  })
addKeyCommand(program, terminal)

program.commandsGroup('Images:')
addIndexCommand(program, terminal)
addSearchCommand(program, terminal)
addMcpCommand(program, terminal)

program.commandsGroup('Stored items:')
addBackupCommands(program, terminal)
addCheckCommand(program, terminal)
addMigrateCommand(program, terminal)
addImagesCommand(program, terminal)

program.commandsGroup('Bundles:')
addModelsCommand(program, terminal)
addReembedCommands(program, terminal)
addRebuildCommand(program, terminal)
addCalibrateCommand(program, terminal)
addEvaluateCommand(program, terminal)
addBenchModelCommand(program, terminal)

try {
  await program.parseAsync()
} catch (error) {
  printLine(terminal.err, `tandem: ${(error as Error).message}`)
  process.exitCode = 1
}
