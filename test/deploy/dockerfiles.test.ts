/** Checks of the Dockerfiles without a build. `test/deploy/image.sh` builds an image. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { packageFolder } from '../../src/config.js'

vi.setConfig({ testTimeout: 60_000 })

const files = ['Dockerfile', 'docker/Dockerfile.gpu']
const hadolint = process.env.HADOLINT ?? join(packageFolder, 'test', '.venv', 'bin', 'hadolint')

// Installed by test/requirements.txt, or named by HADOLINT.
describe.skipIf(!existsSync(hadolint))(
  'hadolint (needs test/.venv, where npm test installs it)',
  () => {
    it.each(files)('finds nothing in %s', (path) => {
      expect(() =>
        execFileSync(hadolint, [join(packageFolder, path)], { stdio: 'pipe' }),
      ).not.toThrow()
    })
  },
)

describe.each(files)('%s', (path) => {
  const lines = readFileSync(join(packageFolder, path), 'utf8').split('\n')

  it('uses base images of an exact version', () => {
    const stages = new Set(lines.flatMap((line) => /^FROM .* AS (\S+)$/.exec(line)?.[1] ?? []))
    const bases = lines.flatMap(
      (line) =>
        /^(?:FROM|ARG \w+_IMAGE=)\s*([^\s$]+)/.exec(line)?.[1]?.replace(/^ARG \w+=/, '') ?? [],
    )
    const outside = bases.filter((base) => base !== 'scratch' && !stages.has(base))
    expect(outside.length).toBeGreaterThan(0)
    for (const base of outside) expect(base).toMatch(/:\d+\.\d+\.\d+-/)
  })

  it('runs as an unprivileged user', () => {
    expect(lines.filter((line) => line.startsWith('USER '))).toEqual(['USER 1000:1000'])
  })
})

it('both images have the same files and health check', () => {
  const [cpu = '', gpu = ''] = files.map((path) => readFileSync(join(packageFolder, path), 'utf8'))
  const shared = (text: string): string[] =>
    text.match(
      /^(COPY (?!--from=(base|build \/usr)).*|USER .*|EXPOSE .*|STOPSIGNAL .*|CMD .*| {2}CMD .*)$/gm,
    ) ?? []
  expect(shared(cpu).length).toBeGreaterThan(10)
  expect(shared(gpu)).toEqual(shared(cpu))
})

it('the package list of the images has the packages of the service, without those of the tests', () => {
  const listed = execFileSync(
    'npm',
    ['sbom', '--package-lock-only', '--omit=dev', '--sbom-format=cyclonedx'],
    { cwd: packageFolder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], maxBuffer: 64e6 },
  )
  const names = (JSON.parse(listed) as { components: { name: string }[] }).components.map(
    ({ name }) => name,
  )
  expect(names).toEqual(expect.arrayContaining(['fastify', 'onnxruntime-node', 'sharp', 'lmdb']))
  expect(names).not.toContain('vitest')
})
