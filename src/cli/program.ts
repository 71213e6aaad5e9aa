/** The `tandem` command. Each file of this folder adds one of its commands. */
import { Command } from 'commander'
import { addBackupCommands } from './backup.js'
import { addBenchModelCommand } from './bench-model.js'
import { addCalibrateCommand } from './calibrate.js'
import { addCheckCommand } from './check.js'
import { addEvaluateCommand } from './evaluate.js'
import { addImagesCommand } from './images.js'
import { addIndexCommand } from './index-folder.js'
import { addKeyCommand } from './key.js'
import { addMcpCommand } from './mcp.js'
import { addMigrateCommand } from './migrate.js'
import { addModelsCommand } from './models.js'
import { addRebuildCommand } from './rebuild.js'
import { addReembedCommands } from './reembed.js'
import { addSearchCommand } from './search.js'
import type { Terminal } from './terminal/terminal.js'
import { packageInfo } from '../config.js'

/** @param serve - runs the service until it is told to end */
export function tandemProgram(terminal: Terminal, serve: () => Promise<unknown>): Command {
  const program = new Command('tandem')
    .description('Image-text retrieval: store images and find them by sentences.')
    .version(packageInfo.version)
    .showHelpAfterError('(see --help)')

  program.commandsGroup('Service:')
  program
    .command('serve')
    .description('run the service until SIGTERM or Ctrl-C')
    .action(async () => void (await serve()))
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
  return program
}
