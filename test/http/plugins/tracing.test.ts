import { describe, expect, it } from 'vitest'
import { traceOf } from '../../../src/http/plugins/tracing.js'
import { startTestService } from '../../support/test-service.js'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const PARENT = `00-${TRACE}-00f067aa0ba902b7-01`

describe('the trace of a request', () => {
  it('continues that of the client, with a span of its own and the same tracestate', () => {
    const { traceId, traceparent, tracestate } = traceOf({
      traceparent: PARENT,
      tracestate: 'a=1,b=2',
    })
    expect([traceId, tracestate]).toEqual([TRACE, 'a=1,b=2'])
    expect(traceparent).toMatch(new RegExp(`^00-${TRACE}-[0-9a-f]{16}-01$`))
    expect(traceparent).not.toBe(PARENT)
  })

  it('continues that of a later version, and keeps only the first flag', () => {
    expect(traceOf({ traceparent: `cc-${TRACE}-00f067aa0ba902b7-07-more` }).traceparent).toMatch(
      new RegExp(`^00-${TRACE}-.*-01$`),
    )
  })

  it.each([
    undefined,
    '',
    `ff-${TRACE}-00f067aa0ba902b7-01`,
    `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `00-${TRACE.toUpperCase()}-00f067aa0ba902b7-01`,
    `${PARENT}-more`,
    `00-${TRACE}-00f067aa0ba902b7`,
  ])('is begun anew for %j, and the state of another trace is left out', (given) => {
    const { traceId, traceparent, tracestate } = traceOf({
      ...(given === undefined ? {} : { traceparent: given }),
      tracestate: 'a=1',
    })
    expect(traceId).toMatch(/^[0-9a-f]{32}$/)
    expect(traceId).not.toBe(TRACE)
    expect(traceparent).toBe(`00-${traceId}-${traceparent.split('-')[2]}-00`)
    expect(tracestate).toBeUndefined()
  })

  it('drops a tracestate that is not printable or longer than 512 characters', () => {
    for (const tracestate of ['a=é', `a=${'1'.repeat(512)}`])
      expect(traceOf({ traceparent: PARENT, tracestate }).tracestate).toBeUndefined()
  })

  it('is in the headers of answers and errors, and reaches the model', async () => {
    const tandem = await startTestService()
    try {
      const asked: unknown[] = []
      const encodeTexts = tandem.models.encodeTexts.bind(tandem.models)
      tandem.models.encodeTexts = (texts, call) => {
        asked.push(call?.trace)
        return encodeTexts(texts, call)
      }
      const headers = { traceparent: PARENT, tracestate: 'a=1' }
      const found = await tandem.app.inject({ url: '/search?q=dog', headers })
      expect(found.headers['traceresponse']).toMatch(new RegExp(`^00-${TRACE}-[0-9a-f]{16}-01$`))
      expect(asked).toMatchObject([
        { traceparent: found.headers['traceresponse'], tracestate: 'a=1' },
      ])
      const lost = await tandem.app.inject({ url: '/nowhere', headers })
      expect([lost.statusCode, lost.headers['traceresponse']]).toEqual([
        404,
        expect.stringContaining(TRACE),
      ])
    } finally {
      await tandem.end()
    }
  })
})
