import { Type, type TUnsafe } from '@sinclair/typebox'

/**
 * What JSON.stringify leaves of T: what a browser really receives.
 * A Date arrives as string, a Map as {}, functions and symbols do not arrive at all.
 */
export type Json<T> =
  0 extends 1 & T ? any
    : unknown extends T ? unknown
      : T extends { toJSON (): infer J } ? Json<J>
        : T extends string | number | boolean | null ? T
          : T extends bigint | symbol | undefined | ((...args: never[]) => unknown) ? never
            : T extends ReadonlyMap<unknown, unknown> | ReadonlySet<unknown> ? {}
              : T extends readonly unknown[] ? { [K in keyof T]: Json<T[K]> }
                : T extends object ? { [K in keyof T as [Json<T[K]>] extends [never] ? never : K]: Json<T[K]> }
                  : never

/** A JSON object whose content is nobody's business but the host's: passed through untouched. */
export const JsonObject: TUnsafe<Readonly<Record<string, unknown>>> = Type.Unsafe<Readonly<Record<string, unknown>>>(Type.Object({}))
export type JsonObject = Readonly<Record<string, unknown>>
