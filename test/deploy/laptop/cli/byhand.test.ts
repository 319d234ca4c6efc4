/** "Every step by hand" of deploy/README.md: common tools follow a program from a key to the receipt of its commit. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { flip } from '../../../fixtures/random.ts'
import { missing, run } from '../../../fixtures/tools.ts'
import { ROOT } from '../../../project/tree.ts'
import { Laptop } from './medulla.ts'

const noTools = missing('age', 'ssh-keygen', 'tar', 'sha256sum', 'openssl', 'bash')

test.skipIf(noTools)(
  `BUNDLE 12.1: V15: from who may push to what runs, every step by hand works as written${noTools}`,
  async () => {
    const readme = readFileSync(join(ROOT, 'deploy/README.md'), 'utf8')
    const section = readme.slice(readme.indexOf('\n## Every step by hand'))
    const [, commands = '', steps = ''] = /```\n([\s\S]*?)```[\s\S]*?```sh\n([\s\S]*?)```/.exec(section) ?? []
    for (const tool of ['age -d', 'tar -t', 'ssh-keygen -Y verify', 'sha256sum']) expect(steps).toContain(tool)

    const laptop = new Laptop()
    onTestFinished(() => laptop.close())
    await laptop.sim({ model: 'sim', handles: { led: { kind: 'output', line: 'GPIO17', safe: 0 } } })
    const at = (name: string) => join(laptop.dir, name)
    mkdirSync(at('blink'))
    writeFileSync(at('blink/package.json'), '{"name":"blink","version":"1.0.0"}')
    writeFileSync(
      at('blink/program.ts'),
      "import { robot } from 'medulla'\nrobot({ led: 'output' }, ({ led, every }) => void every(50, () => led.write(!led.value)))\n",
    )
    const lines = commands.trim().split('\n')
    expect(lines).toHaveLength(6)
    for (const line of lines) {
      const [command = ''] = line.replaceAll('-d arm', '-d sim').split(' #')
      const [, words = '', file] = /^medulla ([^>]*?)\s*(?:> (\S+))?\s*$/.exec(command) ?? []
      const { status, stdout, stderr } = await laptop.run(...words.split(' '))
      expect(status, `${command}\n${stdout}${stderr}`).toBe(0)
      if (file !== undefined) writeFileSync(at(file), stdout)
    }
    copyFileSync(at('config/id_ed25519.pub'), at('me.pub'))
    copyFileSync(at('config/age.key'), at('age.key'))
    const { robots } = JSON.parse(readFileSync(at('config/robots.json'), 'utf8'))
    writeFileSync(at('robot.json'), JSON.stringify(robots.sim.card))

    const byHand = () => run(laptop.dir, 'bash', ['-euo', 'pipefail', '-c', `rm -rf payload inner.tar; ${steps}`])
    const said = byHand()
    for (const namespace of ['cert', 'release', 'build', 'receipt', 'head'])
      expect(said).toContain(`Good "${namespace}@medulla" signature`)
    expect(said).toContain('"outcome":"committed"')

    // Each of the files matters: with one changed character in its middle, a step fails.
    for (const name of ['me.json', 'robot.json', 'blink.medulla', 'blink.ann.json', 'arm.log', 'head.txt']) {
      const bytes = readFileSync(at(name))
      writeFileSync(at(name), flip(bytes, Math.floor(bytes.length / 2) * 8))
      expect(byHand, name).toThrow()
      writeFileSync(at(name), bytes)
    }
  },
)
