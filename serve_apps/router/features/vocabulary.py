"""Words that tell what kind of question a prompt is; a word counts for its first list."""

from __future__ import annotations

from collections.abc import Mapping

VOCABULARY: Mapping[str, str] = {
    "calculates": "calculate compute evaluate solve find determine simplify integral derivative "
    "equation sum product total value many much per percent average rate cost",
    "proves": "prove show proof theorem lemma suppose assume let therefore hence implies iff",
    "explains": "explain describe discuss compare summarize analyze write essay list translate "
    "story email poem paragraph rewrite",
    "denies": "not except never false incorrect least cannot neither nor without unlikely",
    "chooses": "which following best most correct true statement statements option likely",
    "asks": "what who when where why how whose whom",
    "codes": "def return function python assert code class import for while if else print java "
    "javascript sql html array string int list",
    "conditions": "if then unless suppose given when whether would could should might may",
    "measures": "kg km cm mm ft lb mol hz joule watt volt meter meters second seconds hour hours "
    "minute minutes day days week weeks year years dollars dollar miles degrees",
    "sciences": "energy force velocity acid cell gene protein electron pressure temperature "
    "molecule reaction equilibrium current voltage enzyme atom matrix vector group field ring",
    "society": "law court contract state states government economy market price policy rights "
    "act plaintiff defendant social war president",
    "health": "patient disease symptoms treatment blood clinical diagnosis pain therapy drug",
    "pronouns": "i you he she they we his her their my your it",
    "small": "the a an of to in is are and or that with by from as on at be was for",
}
