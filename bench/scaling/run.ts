/**
 * Writes the tables of docs/scaling.md from figures.json and assumptions.json: `npm run scaling`.
 */
import { writeFileSync } from 'node:fs'
import { page, writtenPage } from './written-page.js'

writeFileSync(page, writtenPage())
