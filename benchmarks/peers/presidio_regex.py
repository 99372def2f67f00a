"""Presidio's recognisers of patterns, without its model of names: texts as JSON lines in, found spans and CPU seconds as JSON out.

Runs in an environment of its own: `pip install presidio-analyzer`.
"""

import json
import sys
import time

from presidio_analyzer.predefined_recognizers import (
    CreditCardRecognizer,
    EmailRecognizer,
    IbanRecognizer,
    IpRecognizer,
    PhoneRecognizer,
    UsSsnRecognizer,
)

TYPES = {
    "EMAIL_ADDRESS": "email",
    "IP_ADDRESS": "ip",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "US_SSN": "national_id",
}


def main() -> None:
    texts = [json.loads(line) for line in sys.stdin]
    recognizers = [EmailRecognizer(), IpRecognizer(), CreditCardRecognizer(), IbanRecognizer(), UsSsnRecognizer(), PhoneRecognizer()]
    found = []
    began = time.process_time()
    for text in texts:
        spans = []
        for recognizer in recognizers:
            for result in recognizer.analyze(text, recognizer.supported_entities, None) or []:
                if result.score >= 0.4:  # below, Presidio asks for a word of context
                    spans.append((TYPES[result.entity_type], result.start, result.end))
        found.append(spans)
    print(json.dumps({"seconds": time.process_time() - began, "found": found}))


main()
