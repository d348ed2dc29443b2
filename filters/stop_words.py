"""Function words by language, for Gopher's rule that prose contains some of them.

English has the eight words of the paper. The other lists are ours: eight to twelve of the most
frequent function words of each language, so that any paragraph of prose has two of them.
"""

from __future__ import annotations

STOP_WORDS: dict[str, frozenset[str]] = {
    code: frozenset(words.split())
    for code, words in {
        "en": "the be to of and that have with",
        "ar": "في من على إلى أن عن مع هذا هذه التي الذي ما لا كان و",
        "bg": "на и да от за се не в с че",
        "ca": "el la de i que en els les un una per amb",
        "cs": "a se v na je že s z do o",
        "da": "og i at det er en til på af med",
        "de": "der die und in den von zu das mit sich",
        "el": "και το να του η της με που την από",
        "es": "de la que el en y los se del las un por",
        "et": "ja on ei et ka see oli kui oma",
        "fa": "و در به از که این را با است برای",
        "fi": "ja on ei että oli se hän myös mutta kun",
        "fr": "de la le et les des en un du une que est",
        "he": "של את על לא הוא עם זה גם היא כי",
        "hi": "के में की है से और का को पर यह",
        "hr": "i u je na se da za su od s",
        "hu": "a az és hogy nem is egy van volt meg",
        "id": "yang dan di itu dengan untuk tidak ini dari dalam",
        "it": "di e la il che in un a per è del una",
        "lt": "ir yra kad į iš su bet tai kaip ne",
        "nl": "de van een het en in is dat op te",
        "no": "og i det er en til på som av med",
        "pl": "w i na się z do nie to że jest",
        "pt": "de a o que e do da em um para com uma",
        "ro": "de și în a la cu că pe din este",
        "ru": "и в не на я что с он как по это",
        "sk": "a sa v na je že s z do o",
        "sl": "in je v na se da za so z tudi",
        "sr": "и у је на се да за су од са",
        "sv": "och i att det en som på är av med",
        "tr": "ve bir bu da de için ile çok olarak daha",
        "uk": "і в на не що з у до та як",
        "vi": "và của là có trong cho không được một các",
    }.items()
}
