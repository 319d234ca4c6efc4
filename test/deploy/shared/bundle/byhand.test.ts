import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { bundleFor, newRobot, newSigner } from '../../../fixtures/bundles.ts'
import { missing, run, tempFolder } from '../../../fixtures/tools.ts'

const noTools = missing('age', 'ssh-keygen', 'tar', 'sha256sum', 'openssl', 'bash')

test.skipIf(noTools)(
  `BUNDLE 12.1: the steps by hand work as written, and notice a wrong payload${noTools}`,
  async () => {
    const spec = readFileSync(new URL('../../../../deploy/shared/BUNDLE.md', import.meta.url), 'utf8')
    const steps = /```sh\n([\s\S]*?)```/.exec(spec)?.[1] ?? ''
    expect(steps.trim().split('\n').length).toBeGreaterThan(8)
    const [signer, robot] = [newSigner(), await newRobot()]
    const { bytes, digest, h1 } = await bundleFor([robot], signer)
    const prepare = () => {
      const folder = tempFolder()
      writeFileSync(join(folder, 'age.key'), robot.identity, { mode: 0o600 })
      writeFileSync(join(folder, 'blink.medulla'), bytes)
      writeFileSync(join(folder, 'allowed_signers'), `me@laptop ${signer.publicKey}\n`)
      return folder
    }
    const folder = prepare()
    const said = run(folder, 'bash', ['-euo', 'pipefail', '-c', steps])
    expect(said).toContain('Good "release@medulla" signature for me@laptop')
    expect(said).toContain(`${digest.slice('sha256:'.length)}  release`)
    expect(said).toContain(h1)
    expect(readFileSync(join(folder, 'payload', 'program.mjs'), 'utf8')).toBe('console.log(1)\n')

    const tampered = steps.replace('tar -xf inner.tar', 'tar -xf inner.tar && printf x >> payload.tar.gz')
    expect(() => run(prepare(), 'bash', ['-euo', 'pipefail', '-c', tampered])).toThrow()
  },
)
