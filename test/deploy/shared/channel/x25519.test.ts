/** Keys are made in every handshake and every push: that must never wait for anything. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { SCALE } from '../../../e2e/eventually.ts'

const X25519 = fileURLToPath(new URL('../../../../dist/deploy/shared/channel/x25519.js', import.meta.url))

test(
  '30,000 keys are made while the garbage collector runs, and none of them waits for ever',
  () => {
    expect(existsSync(X25519)).toBe(true)
    const code = `const { generateKeyPair } = await import(${JSON.stringify(X25519)})
    for (let n = 0; n < 30_000; n++) if (generateKeyPair().public.length !== 32) process.exit(1)`
    // small new space: the collector runs often, so that what can meet it does
    const args = ['--max-semi-space-size=1', '--input-type=module', '-e', code]
    const { status, signal } = spawnSync(process.execPath, args, { timeout: 120_000 * SCALE, stdio: 'inherit' })
    expect({ status, signal }).toEqual({ status: 0, signal: null })
  },
  150_000 * SCALE,
)
