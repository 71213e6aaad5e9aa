/**
 * Program that locks the data folder in its argument, reports the outcome, and holds the lock until
 * it is killed.
 */
import { lockDataFolder } from '../../src/files/lock.js'

lockDataFolder(process.argv[2] ?? '', 'another process').then(
  () => process.send?.('held'),
  (error: unknown) => process.send?.((error as Error).message),
)
process.on('disconnect', () => process.exit())
