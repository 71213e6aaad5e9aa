/** `tandem key`: makes an API key for the file of keys. */
import { Option, type Command } from 'commander'
import { newKey } from '../auth/keys.js'
import { scopes, type Scope } from '../auth/key.js'
import { printLine, type Terminal } from './terminal/terminal.js'

export function addKeyCommand(program: Command, terminal: Terminal): void {
  program
    .command('key')
    .description('make an API key; standard output gets its line for API_KEYS_FILE')
    .argument('<name>', 'name of the key in logs')
    .addOption(
      new Option('--scope <scope...>', 'scopes; write includes read, admin includes all')
        .choices(scopes)
        .makeOptionMandatory(),
    )
    .action((name: string, options: { scope: Scope[] }) => {
      const { key, line } = newKey(name, options.scope)
      printLine(terminal.err, `The key, which is shown only once: ${key}`)
      printLine(terminal.out, line)
    })
}
