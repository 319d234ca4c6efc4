/** The rig itself failed, not the command in it. `hint` says what to do next. */
export class RigError extends Error {
  constructor(message, hint) {
    super(message)
    this.name = 'RigError'
    this.hint = hint
  }
}
