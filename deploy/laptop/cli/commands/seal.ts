import { readFile, writeFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { parseInner } from '../../../shared/bundle/inner.ts'
import { parseRelease } from '../../../shared/bundle/release.ts'
import { seal } from '../../../shared/bundle/seal.ts'
import { Refusal } from '../../../shared/errors.ts'
import { type App, example, type Runner } from '../app.ts'
import { findRobot } from '../robot.ts'
import { identities, identityOption, readerOf, type SubjectOptions } from '../subject.ts'

interface Options extends SubjectOptions {
  to: string[]
  output?: string
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Seals a bundle file again: to the present keys of some of the robots that it was built for, and of this laptop. The ' +
        'signature stays, and covers the list of robots, so a robot that is not in the list needs a new build.',
    )
    .argument('<file>', 'a bundle file that this laptop can open')
    .requiredOption(
      '--to <robots>',
      'a,b,c: robots of this laptop; may be given more than once',
      (names: string, before: string[] = []) => [...before, ...names.split(',')],
    )
    .option('-o, --output <file>', 'the new file (default: replaces the file)')
    .addOption(identityOption())
    .addHelpText(
      'after',
      example('medulla seal blink.medulla --to arm,rover', 'medulla seal old.medulla --to arm -o new.medulla'),
    )
    .action((file: string, options: Options) => run(() => sealAgain(app, file, options)))
}

async function sealAgain(app: App, file: string, options: Options): Promise<number> {
  const { unseal } = await import('../../provenance/opened.ts')
  const bytes = await readFile(file).catch((cause: NodeJS.ErrnoException) => {
    throw new Refusal('usage', `cannot read ${file}: ${cause.message}`, undefined, { cause })
  })
  const robots = await Promise.all([...new Set(options.to)].map((name) => findRobot(app.dir, name)))
  const inner = await unseal(bytes, await identities(app, options))
  const { recipients } = parseRelease((await parseInner(inner)).release)
  const ages = robots.map(({ name, card }) => {
    if (!recipients.includes(card.id) || card.age === undefined) {
      const message = `${file} was not built for ${name}: the signature covers the list of robots`
      throw new Refusal('wrong-robot', message, `build it again: medulla build FOLDER -d ${options.to.join(',')}`)
    }
    return card.age
  })
  const sealed = await seal(inner, [...ages, await readerOf(app.dir)])
  const output = options.output ?? file
  await writeFile(output, sealed)
  const names = robots.map(({ name }) => name)
  app.term.event({ event: 'sealed', file: output, robots: names, bytes: sealed.length })
  app.term.line(`${output}: sealed to ${names.join(', ')}, ${sealed.length} bytes`)
  return 0
}
