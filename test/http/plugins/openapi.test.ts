import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Validator } from '@seriousme/openapi-schema-validator'
import { Ajv } from 'ajv'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageFolder } from '../../../src/config.js'
import { errorTable } from '../../../src/errors.js'
import { startTestService, type TestService } from '../../support/test-service.js'

interface Content {
  schema: { $ref?: string }
  example?: unknown
  examples?: Record<string, { value: unknown }>
}

interface Document {
  openapi: string
  components: {
    schemas: Record<string, { examples?: unknown[] }>
    securitySchemes?: object
  }
  paths: Record<
    string,
    Record<
      string,
      {
        summary?: string
        operationId: string
        parameters?: { in: string; name: string }[]
        requestBody?: { content: Record<string, Content> }
        responses: Record<string, { description: string; content?: Record<string, Content> }>
      }
    >
  >
}

let tandem: TestService
let document: Document
/** Of a service that encodes for others. */
let encoding: Document

beforeAll(async () => {
  tandem = await startTestService()
  document = (await tandem.app.inject('/openapi.json')).json()
  const encoder = await startTestService({ role: 'encode', dialects: [] })
  encoding = (await encoder.app.inject('/openapi.json')).json()
  await encoder.end()
})
afterAll(() => tandem.end())

const operations = (): string[] =>
  Object.entries({ ...document.paths, ...encoding.paths }).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  )

describe('/openapi.json', () => {
  it('has the operations of docs/http-api.md and docs/clients.md, and no others', () => {
    const text = ['docs/http-api.md', 'docs/clients.md']
      .map((path) => readFileSync(join(packageFolder, path), 'utf8'))
      .join('\n')
    const explained = [...text.matchAll(/^#+ `((?:GET|PUT|POST|DELETE) \/\S*)`$/gm)].map(
      ([, operation = '']) => operation,
    )
    const outside = ['GET /openapi.json', 'GET /docs', 'GET /']
    expect(explained.filter((operation) => !outside.includes(operation)).sort()).toEqual(
      operations().sort(),
    )
  })

  it('has a summary and all error codes of each operation', () => {
    for (const [path, methods] of Object.entries({ ...document.paths, ...encoding.paths })) {
      for (const [method, { summary, responses }] of Object.entries(methods)) {
        expect(summary, `${method} ${path}`).toMatch(/^[A-Z]/)
        expect(Object.keys(responses), `${method} ${path}`).toEqual(
          expect.arrayContaining(['400', '403', '422', '500']),
        )
        for (const [status, { description, content }] of Object.entries(responses)) {
          if (Number(status) < 400 || path === '/health/ready') continue
          // Messages of MCP are answered in its own form, too.
          if (path === '/mcp' && status === '404') continue
          const [codes = '', others] = description.split(', or: ')
          expect(Object.keys(content ?? {}), `${method} ${path}`).toEqual([
            'application/problem+json',
            ...(others === undefined ? [] : ['application/json']),
          ])
          for (const code of codes.split(', '))
            expect(errorTable).toMatchObject({ [code]: { status: Number(status) } })
        }
      }
    }
  })

  it('is a valid OpenAPI document, with keys and without', async () => {
    const locked = await startTestService({ apiKeys: ['first-secret'] })
    const withKeys: Document = (await locked.app.inject('/openapi.json')).json()
    await locked.end()
    expect(withKeys.components.securitySchemes).toHaveProperty('bearer')
    for (const each of [document, encoding, withKeys])
      expect(await new Validator().validate({ ...each })).toEqual({ valid: true })
  })

  it('reports a document that is not valid', async () => {
    const broken = structuredClone(document) as unknown as { paths: Record<string, object> }
    broken.paths['search'] = {}
    expect(await new Validator().validate(broken)).toMatchObject({ valid: false })
  })

  it('names each operation once, and the schemas of requests, replies and errors', () => {
    for (const { paths } of [document, encoding]) {
      const names = Object.values(paths).flatMap((methods) =>
        Object.values(methods).map(({ operationId }) => operationId),
      )
      for (const name of names) expect(name).toMatch(/^[a-z][A-Za-z0-9]+$/)
      expect(new Set(names).size).toBe(names.length)
    }
    expect(document.paths['/search']?.['post']?.operationId).toBe('search')
    expect(Object.keys(document.components.schemas)).toEqual(
      expect.arrayContaining([
        'Problem',
        'Hit',
        'SearchBody',
        'SearchReply',
        'ItemReply',
        'Filter',
      ]),
    )
    const reply = document.paths['/search']?.['get']?.responses['200']?.content
    expect(reply).toMatchObject({
      'application/json': { schema: { $ref: '#/components/schemas/SearchReply' } },
    })
  })

  it('has examples that its own schemas accept', () => {
    const ajv = new Ajv({ strict: false, validateFormats: false })
    const { components } = document
    ajv.addSchema({ components }, 'document')
    const ofSchemas = Object.entries(components.schemas).flatMap(([name, { examples = [] }]) =>
      examples.map((example) => [`#/components/schemas/${name}`, example] as const),
    )
    const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods))
    const ofContents = operations
      .flatMap(({ requestBody, responses }) => [requestBody, ...Object.values(responses)])
      .flatMap((part) => Object.values(part?.content ?? {}))
      .flatMap(({ schema, example, examples = {} }) =>
        [...(example === undefined ? [] : [{ value: example }]), ...Object.values(examples)].map(
          ({ value }) => [schema.$ref ?? '', value] as const,
        ),
      )
    const examples = [...ofSchemas, ...ofContents]
    expect(examples.length).toBeGreaterThan(8)
    for (const [ref, example] of examples) {
      const validate = ajv.compile({ $ref: `document${ref}` })
      expect(validate(example), `${ref}: ${JSON.stringify(validate.errors)}`).toBe(true)
    }
  })

  it('has only the operations of the role', () => {
    expect(Object.keys(encoding.paths).sort()).toEqual([
      '/embed',
      '/encoder',
      '/encoder/images',
      '/encoder/match',
      '/encoder/texts',
      '/health/live',
      '/health/ready',
      '/metrics',
      '/rerank',
    ])
    expect(Object.keys(document.paths).filter((path) => path.startsWith('/encoder'))).toEqual([])
  })

  it('lists the errors of a route only there', () => {
    const statuses = (method: string, path: string) =>
      Object.keys(document.paths[path]?.[method]?.responses ?? {})
    expect(statuses('get', '/items/{id}')).toContain('404')
    expect(statuses('put', '/items/{id}')).toEqual(expect.arrayContaining(['413', '415', '507']))
    expect(statuses('get', '/items')).not.toContain('404')
    expect(statuses('get', '/health/live')).not.toContain('503')
    // No key is asked for here.
    expect(statuses('get', '/items')).not.toContain('401')
  })

  it('documents Request-Timeout for the operations that have a time limit', async () => {
    const names = (method: string, path: string) =>
      (document.paths[path]?.[method]?.parameters ?? []).flatMap(({ in: where, name }) =>
        where === 'header' ? [name] : [],
      )
    expect(names('get', '/search')).toEqual(['request-timeout'])
    expect(names('put', '/items/{id}')).toEqual(['request-timeout'])
    expect(names('get', '/health/live')).toEqual([])
    // Documented, and checked by the service itself.
    const answer = await tandem.app.inject({
      url: '/search?q=dog',
      headers: { 'request-timeout': 'soon' },
    })
    expect(answer.json()).toMatchObject({ status: 422, code: 'invalid_request' })
  })

  it('has a page whose scripts and styles come from the service itself', async () => {
    const page = await tandem.app.inject('/docs')
    expect(page.statusCode).toBe(200)
    const sources = [...page.body.matchAll(/(?:src|href)="([^"]+)"/g)].map(
      ([, source = '']) => source,
    )
    expect(sources.length).toBeGreaterThan(2)
    for (const source of sources) {
      const { host, pathname } = new URL(source, 'http://service/docs')
      expect(host).toBe('service')
      expect((await tandem.app.inject(pathname)).statusCode, source).toBe(200)
    }
  })
})
