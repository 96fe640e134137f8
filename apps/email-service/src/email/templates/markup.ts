const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** HTML with every value escaped, fit for text and for quoted attributes. */
export const html = tag((value) => value.replace(/[&<>"']/g, (character) => entities[character] ?? character));

/** One line of a header: line breaks and other control characters in a value become spaces. */
export const line = tag((value) => value.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' '));

function tag(escape: (value: string) => string) {
  return (literals: TemplateStringsArray, ...values: string[]): string =>
    String.raw({ raw: literals }, ...values.map(escape));
}
