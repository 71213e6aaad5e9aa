/**
 * Takes the data folder that the argument names, says what came of it, and keeps it until it is
 * killed.
 */
import { lockDataFolder } from '../../src/files/lock.js'

lockDataFolder(process.argv[2] ?? '', 'another process').then(
  () => process.send?.('held'),
  (error: unknown) => process.send?.((error as Error).message),
)
process.on('disconnect', () => process.exit())
