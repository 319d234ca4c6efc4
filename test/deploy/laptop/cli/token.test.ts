/** A key in a FIDO token, with the built CLI: the token is software, behind an ssh agent, and ssh-keygen is the real one. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { fingerprint } from '../../../../deploy/shared/bundle/sshsig.ts'
import { Token } from '../../../fixtures/token.ts'
import { missing } from '../../../fixtures/tools.ts'
import { Laptop } from './medulla.ts'

const noKeygen = missing('ssh-keygen')

test.skipIf(noKeygen)(
  `G6: BUNDLE 2.7: an owner with a key in a token pushes and gives orders; without a touch, nothing is sent${noKeygen}`,
  async () => {
    const laptop = new Laptop()
    onTestFinished(() => laptop.close())
    await laptop.sim({
      model: 'sim',
      handles: { led: { kind: 'output', line: 'GPIO17', safe: 0 } },
      timing: { trialMs: 60 },
    })
    const token = new Token()
    const agent = await token.agent(join(laptop.dir, 'agent'))
    onTestFinished(() => void agent.close())
    const env = { SSH_AUTH_SOCK: join(laptop.dir, 'agent'), SSH_ASKPASS_REQUIRE: 'never' }
    const run = (...args: string[]) => laptop.start(args, env).ended
    writeFileSync(join(laptop.dir, 'token.pub'), `${token.publicKey} ada\n`)

    const rotated = await run('operators', 'rotate', '--to', 'token.pub')
    expect(rotated.status, rotated.stderr).toBe(0)
    expect(rotated.stdout).toContain(`is owner with the key ${fingerprint(token.publicKey)}; the old key is revoked`)
    const source =
      "import { robot } from 'medulla'\nrobot({ needs: { led: 'output' }, run({ led }) { led.write(1) } })\n"
    writeFileSync(join(laptop.dir, 'lamp.mjs'), source)
    const pushed = await run('push', 'lamp.mjs')
    expect(pushed.status, pushed.stderr).toBe(0)
    expect(await run('stop')).toMatchObject({ status: 0 })
    expect(await run('start')).toMatchObject({ status: 0 })
    expect(token.counter).toBeGreaterThan(2)
    const { stdout } = await run('receipts', '--json')
    const receipts = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(receipts.find(({ outcome }) => outcome === 'committed')).toMatchObject({
      signer: fingerprint(token.publicKey),
    })
    expect(receipts.at(-1)).toMatchObject({ outcome: 'started', pusher: fingerprint(token.publicKey) })

    token.untouched = true
    const refused = await run('push', 'lamp.mjs')
    expect(refused.status).toBeGreaterThan(0)
    expect(refused.stderr).toContain('the security key was not touched')
  },
)
