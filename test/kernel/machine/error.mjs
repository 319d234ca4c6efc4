/** The rig itself failed, not what ran in it. `hint` is the next thing to do. */
export class RigError extends Error {
  constructor(message, hint) {
    super(message)
    this.name = 'RigError'
    this.hint = hint
  }
}
