import neostandard from 'neostandard'

export default [
  ...neostandard({
    ts: true,
    ignores: ['**/dist/**', '.tap/**', '**/node_modules/**']
  }),
  // A schema and its type share one name; the compiler still reports real redeclarations.
  { files: ['**/*.ts'], rules: { '@typescript-eslint/no-redeclare': 'off' } }
]
