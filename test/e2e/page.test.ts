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
const AXE = readFileSync(join(packageFolder, 'node_modules', 'axe-core', 'axe.min.js'), 'utf8')

interface Violation {
  id: string
  nodes: { html: string }[]
}

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
    const options = (): Promise<void> => page.getByRole('button', { name: 'Options' }).click()
    /** Rules of WCAG that axe finds broken, with their elements. */
    const violations = async (): Promise<string[]> => {
      // By the debugger of the browser, which the policy of the page does not concern.
      await page.evaluate(AXE)
      const { violations: found } = await page.evaluate<{ violations: Violation[] }>('axe.run()')
      return found.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html}`))
    }
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

    it('takes at most a fifth of the screen of a phone for its controls', async () => {
      await page.setViewportSize({ width: 390, height: 844 })
      await page.goto(address)
      await settled(/stored/)
      const { height = Infinity } = (await page.locator('header').boundingBox()) ?? {}
      expect(height).toBeLessThanOrEqual(844 / 5)
    })

    it('searches while the user types and shows match and similarity on demand', async () => {
      await page.goto(address)
      await page.keyboard.type('boats on the water')
      await settled(/^3 photos$/)
      expect(await page.locator('.scores').first().isVisible()).toBe(false)
      await options()
      await page.locator('#numbers').check()
      expect(await page.locator('.scores').first().isVisible()).toBe(true)
      const answer = (await (await fetch(`${address}search?q=boats+on+the+water&k=48`)).json()) as {
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
      await settled(/photos/)
      await options()
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
      await settled(/photos/)
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
      const added = page.locator('.card .name', { hasText: 'image.jpg' })
      await fetch(`${address}items/${await added.getAttribute('title')}`, { method: 'DELETE' })
    })

    it('shows the message of an error and recovers', async () => {
      await page.goto(address)
      await page
        .locator('#query-file')
        .setInputFiles({ name: 'x.png', mimeType: 'image/png', buffer: Buffer.from('no image') })
      await page.locator('#failure').waitFor()
      expect((await page.locator('#failure').textContent())?.length).toBeGreaterThan(10)
      await page.locator('#sentence').fill('sheep')
      await settled(/photos/)
      expect(await page.locator('#failure').isVisible()).toBe(false)
    })

    it('finds each query again by its address, and by Back', async () => {
      await page.goto(address)
      await settled(/stored/)
      await page.locator('#query-file').setInputFiles(photo('march-pastoral'))
      await page.waitForURL(/#image=[\w-]{100}/)
      await page.locator('.card .name').first().filter({ hasText: 'march-pastoral' }).waitFor()
      const imageAddress = page.url()
      await page.getByRole('button', { name: 'More like black-canyon' }).click()
      await page.waitForURL(/like=black-canyon/)
      await page.locator('#sentence').fill('boats')
      await page.keyboard.press('Enter')
      await page.waitForURL(/q=boats/)
      await settled(/3 photos/)
      await page.goBack()
      await page.getByText('Photos like black-canyon').waitFor()
      await page.goBack()
      await page.getByText('Photos like image.jpg').waitFor()
      await page.goBack()
      await settled(/stored/)
      const link = await page.context().newPage()
      await link.goto(imageAddress)
      await link.getByText('Photos like image.jpg').waitFor()
      await link.locator('.card .name').first().filter({ hasText: 'march-pastoral' }).waitFor()
      await link.goto(`${address}?like=black-canyon`)
      await link.getByText('Photos like black-canyon').waitFor()
      expect(await link.locator('#shown-query-image').getAttribute('src')).toContain('black-canyon')
    })

    it('opens a photo large with its data, steps to the next one and deletes it', async () => {
      const body = readFileSync(photo('locomotion-house-cat'))
      const payload = encodeURIComponent(JSON.stringify({ album: 'cats', year: 2021 }))
      for (const id of ['a-cat', 'b-cat'])
        await fetch(`${address}items/${id}?payload=${payload}`, {
          method: 'PUT',
          body,
          headers: { 'content-type': 'image/jpeg' },
        })
      await page.goto(address)
      await page.getByRole('button', { name: 'Open a-cat' }).click()
      expect(await page.locator('#viewer-data').textContent()).toMatch(
        /Ida-cat.*albumcats.*year2021/,
      )
      await page.waitForFunction(`document.getElementById('viewer-image').naturalWidth > 0`)
      expect(await page.locator('#viewer-download').getAttribute('download')).toBe('a-cat.jpg')
      await page.keyboard.press('ArrowRight')
      expect(await page.locator('#viewer-name').textContent()).toBe('b-cat')
      await page.locator('#viewer-delete').click()
      expect((await fetch(`${address}items/b-cat`)).status).toBe(200)
      await page.getByText('Delete for good?').click()
      await page.locator('#viewer').waitFor({ state: 'hidden' })
      expect((await fetch(`${address}items/b-cat`)).status).toBe(404)
      expect(await cards()).not.toContain('b-cat')
      await fetch(`${address}items/a-cat`, { method: 'DELETE' })
    })

    it('filters by the data of photos and by their match', async () => {
      const body = readFileSync(photo('dust-bowl-home'))
      const payload = encodeURIComponent(JSON.stringify({ album: 'farm', year: 1936 }))
      await fetch(`${address}items/farm?payload=${payload}`, {
        method: 'PUT',
        body,
        headers: { 'content-type': 'image/jpeg' },
      })
      await page.goto(`${address}?q=house`)
      await settled(/4 photos/)
      await options()
      await page.locator('#add-condition').click()
      await page.keyboard.type('year')
      await page.locator('#conditions .test').selectOption('lte')
      await page.locator('#conditions .value').fill('1940')
      await page.locator('#conditions .value').blur()
      await settled(/1 photo/)
      expect(await cards()).toEqual(['farm'])
      await page.reload()
      await settled(/1 photo/)
      await options()
      expect(await page.locator('#conditions .value').inputValue()).toBe('1940')
      await page.getByRole('button', { name: 'Remove the condition' }).click()
      await settled(/4 photos/)
      await page.locator('#min-match').selectOption('0.75')
      await page.waitForURL(/min_match=0.75/)
      await fetch(`${address}items/farm`, { method: 'DELETE' })
    })

    it('marks where likely matches end, and shows more than a page of hits', async () => {
      const hits = Array.from({ length: 120 }, (_, at) => ({
        id: `hit-${at}`,
        score: 1 - at / 120,
        similarity: 0.3,
        match: 1 - at / 120,
        payload: null,
      }))
      await page.route('**/search?*', (route) => {
        const k = Number(new URL(route.request().url()).searchParams.get('k'))
        const json = { hits: hits.slice(0, k), notices: [], timings: { total: 1 } }
        return route.fulfill({ json })
      })
      await page.goto(`${address}?q=boats`)
      await settled(/48 photos/)
      expect(await page.locator('.divider').count()).toBe(0)
      await page.getByRole('button', { name: 'Show more' }).click()
      await settled(/96 photos/)
      const order = await page.locator('#results > li').allTextContents()
      expect(order.findIndex((text) => text.includes('Less likely below'))).toBe(61)
      await page.getByRole('button', { name: 'Show more' }).click()
      await settled(/120 photos/)
      expect(await page.locator('.card').count()).toBe(120)
      expect(await page.locator('#more').isVisible()).toBe(false)
    })

    it('says so where a picture cannot be shown, and why a text has no match', async () => {
      await page.route('**/items/*/image', (route) => route.fulfill({ status: 404 }))
      await page.route('**/search?*', (route) => {
        const notices = [{ code: 'language_not_supported', detail: 'The text is Finnish.' }]
        const hit = { id: 'gone', score: 0.2, similarity: 0.2, match: null, payload: null }
        return route.fulfill({ json: { hits: [hit], notices, timings: { total: 1 } } })
      })
      await page.goto(`${address}?q=venheet`)
      await page.locator('.card.broken').waitFor()
      expect(await page.locator('#notice').textContent()).toBe('The text is Finnish.')
    })

    it('fetches nothing from other origins and has no violation of accessibility', async () => {
      const others: string[] = []
      page.on('request', (request) => {
        const { origin, protocol } = new URL(request.url())
        if (protocol.startsWith('http') && origin !== new URL(address).origin) others.push(origin)
      })
      await page.goto(`${address}?q=boats`)
      await settled(/photos/)
      await options()
      await page.locator('#add-condition').click()
      for (const colorScheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme })
        expect(await violations()).toEqual([])
      }
      await page
        .getByRole('button', { name: /^Open / })
        .first()
        .click()
      expect(await violations()).toEqual([])
      expect(others).toEqual([])
    })

    it('asks for an API key only if the service requires one', async () => {
      await page.goto(address)
      await settled(/stored/)
      expect(await page.locator('#key-form').isVisible()).toBe(false)
      await page.goto(lockedAddress)
      await page.locator('#api-key').waitFor()
      expect(await page.locator('#key-note').textContent()).toBe('Kept for this tab only.')
      await page.keyboard.type('another-key')
      await page.keyboard.press('Enter')
      await page.getByText('The service does not know this key.').waitFor()
      await page.locator('#api-key').fill(KEY)
      await page.keyboard.press('Enter')
      await page.getByText('No photos yet').waitFor()
      await page.locator('#add-files').setInputFiles(photo('nagasaki-boats'))
      await page.locator('.photo img[src^="blob:"]').waitFor()
    })
  },
)
