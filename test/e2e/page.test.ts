/** The search page in Chromium against the real service; skipped without Chromium or a bundle. */
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium, type Browser, type Page } from 'playwright-core'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { buildApp, type Tandem } from '../../src/http/app.js'
import { packageFolder, readConfig } from '../../src/config.js'

const executable = [
  process.env['CHROMIUM'],
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
]
  .filter((path) => path !== undefined)
  .find((path) => existsSync(path))
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-background-networking',
  '--disable-sync',
  '--no-first-run',
]
const photo = (name: string): string =>
  join(packageFolder, 'node_modules', '@stdlib', `datasets-img-${name}`, 'data', 'image.jpg')
const KEY = 'page-test-key'

describe.skipIf(executable === undefined)(
  'the search page (needs Chromium: none was found)',
  { timeout: 120_000 },
  () => {
    let folder: string
    let open: Tandem
    let locked: Tandem
    let address: string
    let lockedAddress: string
    let browser: Browser
    let page: Page
    const complaints: string[] = []

    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'tandem-test-'))
      const config = (name: string, apiKeys: string[]) => ({
        ...readConfig({
          LOG_LEVEL: 'silent',
          TANDEM_MODEL: join(packageFolder, 'test', 'fixtures', 'tiny-bundle'),
        }),
        dataFolder: join(folder, name),
        apiKeys,
      })
      open = await buildApp(config('open', []))
      await open.start()
      address = `${await open.app.listen({ host: '127.0.0.1', port: 0 })}/`
      locked = await buildApp(config('locked', [KEY]))
      await locked.start()
      lockedAddress = `${await locked.app.listen({ host: '127.0.0.1', port: 0 })}/`
      for (const id of ['nagasaki-boats', 'march-pastoral', 'black-canyon']) {
        const body = readFileSync(photo(id))
        await fetch(`${address}items/${id}`, {
          method: 'PUT',
          body,
          headers: { 'content-type': 'image/jpeg' },
        })
      }
      browser = await chromium.launch({
        ...(executable === undefined ? {} : { executablePath: executable }),
        args: ARGUMENTS,
      })
    }, 120_000)

    afterAll(async () => {
      await browser?.close()
      await open?.close()
      await locked?.close()
      await rm(folder, { recursive: true })
    })

    beforeEach(async () => {
      const context = await browser.newContext({ viewport: { width: 360, height: 740 } })
      page = await context.newPage()
      complaints.length = 0
      page.on('pageerror', (error) => complaints.push(error.message))
      page.on('console', (message) => {
        if (/Content Security Policy/.test(message.text())) complaints.push(message.text())
      })
      return async () => {
        expect(complaints).toEqual([])
        await context.close()
      }
    })

    const cards = (): Promise<string[]> => page.locator('.card .name').allTextContents()
    const settled = (text: RegExp): Promise<void> =>
      page.locator('#status', { hasText: text }).waitFor()

    it('shows the stored photos without horizontal scrolling on a phone', async () => {
      await page.goto(address)
      await settled(/stored/)
      expect((await cards()).slice(0, 3)).toEqual([
        'black-canyon',
        'march-pastoral',
        'nagasaki-boats',
      ])
      // Evaluated in the browser, as text: the test has no DOM types.
      await page.waitForFunction(
        `[...document.querySelectorAll('.photo img')].every((image) => image.naturalWidth > 0)`,
      )
      expect(
        await page.evaluate<number>('document.documentElement.scrollWidth'),
      ).toBeLessThanOrEqual(360)
    })

    it('searches while the user types and shows match and similarity', async () => {
      await page.goto(address)
      await page.keyboard.type('boats on the water')
      await settled(/photos? in \d+ ms/)
      const answer = (await (await fetch(`${address}search?q=boats+on+the+water&k=24`)).json()) as {
        hits: { id: string; match: number | null }[]
      }
      expect(await cards()).toEqual(answer.hits.map(({ id }) => id))
      expect(await page.locator('.scores .match').count()).toBe(
        answer.hits.filter(({ match }) => match !== null).length,
      )
      expect(page.url()).toContain('?q=boats+on+the+water')
    })

    it('does not rerank once rerank is switched off by keyboard', async () => {
      await page.goto(`${address}?q=boats`)
      await settled(/photos? in/)
      await page.locator('#rerank').focus()
      await page.keyboard.press('Space')
      await page.waitForURL(/rerank=false/)
      await page.locator('.scores .match').first().waitFor({ state: 'detached' })
      expect(await page.locator('.scores .similarity').count()).toBeGreaterThan(0)
    })

    it('finds photos similar to a hit and to an image', async () => {
      await page.goto(address)
      await page.getByRole('button', { name: 'More like black-canyon' }).click()
      await page.getByText('Photos like black-canyon').waitFor()
      await settled(/photos? in/)
      expect(await cards()).not.toContain('black-canyon')
      await page.locator('#query-file').setInputFiles(photo('march-pastoral'))
      await page.getByText('Photos like image.jpg').waitFor()
      await page.locator('.card .name').first().filter({ hasText: 'march-pastoral' }).waitFor()
    })

    it('adds photos and shows for each failed file why it was not added', async () => {
      const text = join(folder, 'notes.jpg')
      await writeFile(text, 'not an image')
      await page.goto(address)
      await settled(/stored/)
      await page.locator('#add-files').setInputFiles([photo('dust-bowl-home'), text])
      await page.locator('#files .failed').waitFor()
      await page.locator('.card .name', { hasText: 'image.jpg' }).waitFor()
      const lines = await page.locator('#files li').allTextContents()
      expect(lines[0]).toContain('added')
      expect(lines[1]).toMatch(/not added.{10,}/)
    })

    it('shows the message of an error and recovers', async () => {
      await page.goto(address)
      await page
        .locator('#query-file')
        .setInputFiles({ name: 'x.png', mimeType: 'image/png', buffer: Buffer.from('no image') })
      await page.locator('#failure').waitFor()
      expect((await page.locator('#failure').textContent())?.length).toBeGreaterThan(10)
      await page.locator('#sentence').fill('sheep')
      await settled(/photos? in/)
      expect(await page.locator('#failure').isVisible()).toBe(false)
    })

    it('asks for an API key only if the service requires one', async () => {
      await page.goto(address)
      await settled(/stored/)
      expect(await page.locator('#key-form').isVisible()).toBe(false)
      await page.goto(lockedAddress)
      await page.locator('#api-key').waitFor()
      await page.keyboard.type(KEY)
      await page.keyboard.press('Enter')
      await page.getByText('No photos yet').waitFor()
      await page.locator('#add-files').setInputFiles(photo('nagasaki-boats'))
      await page.locator('.photo img[src^="blob:"]').waitFor()
    })
  },
)
