#include "libpolicy/text/language_id.h"

#include <gtest/gtest.h>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

TEST(LanguageIdentifier, KnowsSentencesOfEveryBuiltInLanguage) {
  const std::map<std::string, std::string> sentences = {
      {"en", "All human beings are born free and equal in dignity and rights."},
      {"de", "Alle Menschen sind frei und gleich an Würde und Rechten geboren."},
      {"fr", "Tous les êtres humains naissent libres et égaux en dignité et en droits."},
      {"es", "Todos los seres humanos nacen libres e iguales en dignidad y derechos."},
      {"it", "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti."},
      {"pt", "Todos os seres humanos nascem livres e iguais em dignidade e em direitos."},
      {"nl", "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren."},
      {"sv", "Alla människor är födda fria och lika i värde och rättigheter."},
      {"pl", "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw."},
      {"cs", "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv."},
      {"tr", "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar."},
      {"fi", "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan."},
      {"hu", "Minden emberi lény szabadon születik és egyenlő méltósága és joga van."},
      {"ro", "Toate ființele umane se nasc libere și egale în demnitate și în drepturi."},
      {"id", "Semua orang dilahirkan merdeka dan mempunyai martabat dan hak-hak yang sama."},
      {"vi", "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền."},
      {"ru", "Все люди рождаются свободными и равными в своем достоинстве и правах."},
      {"uk", "Всі люди народжуються вільними і рівними у своїй гідності та правах."},
      {"bg", "Всички хора се раждат свободни и равни по достойнство и права."},
      {"el", "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι."},
      {"he", "כל בני האדם נולדו בני חורין."},
      {"ar", "يولد جميع الناس أحراراً متساوين."},
      {"hi", "सभी मनुष्यों को गौरव और अधिकार प्राप्त हैं।"},
      {"th", "มนุษย์ทั้งปวงเกิดมามีอิสระ"},
      {"ko", "모든 인간은 태어날 때부터 자유롭다."},
      {"ja", "すべての人間は、生まれながらにして自由である。"},
      {"zh", "人人生而自由，在尊严和权利上一律平等。"}};
  const LanguageIdentifier identifier;
  for (const auto& [language, sentence] : sentences)
    EXPECT_EQ(identifier.identify(sentence).language, language) << sentence;
}

TEST(LanguageIdentifier, MixedAndEmptyTexts) {
  const LanguageIdentifier identifier;
  EXPECT_EQ(identifier.identify("").language, "");
  EXPECT_EQ(identifier.identify("12 + 7 = 19 !?").language, "");
  EXPECT_EQ(identifier.identify("\xff\xfe").language, "");
  EXPECT_EQ(identifier.identify("日本語の文に English が一つ").language, "ja");
  const auto sure = identifier.identify("The people of this house have been here for many years.");
  EXPECT_EQ(sure.language, "en");
  EXPECT_GT(sure.probability, 0.99);
}

TEST(LanguageIdentifier, LearnsFromSamplesAndChoosesAmongSome) {
  const LanguageIdentifier ciphers({{"aa", "momo lumo nulo"}, {"bb", "tirka karti ritka"}},
                                   {"aa", "bb"});
  EXPECT_EQ(ciphers.identify("lumo lomu").language, "aa");
  EXPECT_EQ(ciphers.identify("katri").language, "bb");
  EXPECT_THROW(LanguageIdentifier({}, {"tlh"}), ConfigError);
  const std::map<std::string, std::string> digits = {{"x", "1 2 3"}};
  EXPECT_THROW(LanguageIdentifier{digits}, ConfigError);
}

}  // namespace
}  // namespace meed
