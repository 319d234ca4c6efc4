/** Shows the text of a recovery key once. It is in no file, and nothing shows it again. */
import type { App } from './app.ts'

export function showRecovery({ term }: App, text: string, robot?: string): void {
  term.event({ event: 'recovery-key', text })
  term.line()
  term.line(`The recovery key${robot === undefined ? '' : ` of ${robot}`}, which is shown only now. Write it on paper:`)
  term.line()
  term.line(`    ${term.paint('bold', text)}`)
  term.line()
  term.line('Whoever has it can become owner of the robot once: medulla recover. Keep it apart from your laptop.')
}
