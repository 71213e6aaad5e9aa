/**
 * Security headers that hold for every reply; the page and images set a stricter or wider content
 * policy themselves.
 */
import plugin from 'fastify-plugin'

export const headers = plugin((app, _options, done) => {
  app.addHook('onRequest', (_request, reply, next) => {
    reply.headers({
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'referrer-policy': 'no-referrer',
      'cross-origin-resource-policy': 'same-origin',
      'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
    })
    next()
  })
  done()
})
